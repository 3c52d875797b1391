"""The network in as few PyTorch calls as a CPU likes, with the weights' names and the arithmetic of transformers' LlamaForCausalLM, and its optimizer."""
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv, self.size = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, self.kv * self.size, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, self.kv * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, c.hidden_size, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.size).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotated(q, cos, sin).to(v.dtype), rotated(k, cos, sin).to(v.dtype)
        group = self.heads // self.kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, -1))


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), Mlp(c)
        self.input_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)

    def forward(self, ids, cos, sin):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class Network(nn.Module):
    """`forward(ids)` gives the normed hidden states; the head is the embedding."""

    def __init__(self, c):
        super().__init__()
        self.model = Decoder(c)
        frequencies = 1.0 / 10000.0 ** (torch.arange(0, c.head_dim, 2).float() / c.head_dim)
        angles = torch.arange(c.max_position_embeddings).float()[:, None] * frequencies
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 if "embed" in name else parameter.shape[1] ** -0.5 * (0.3 if deep else 0.6))

    def forward(self, ids):
        length = ids.shape[1]
        return self.model(ids, self.cos[:length], self.sin[:length])

    def logits(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)


class Muon:
    """Momentum made orthogonal, for the matrices of the layers (Jordan et al. 2024). Matrices of one shape go through it together."""

    def __init__(self, parameters, momentum=0.95):
        self.momentum, self.groups, self.rate = momentum, {}, 0.0
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.state = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self):
        for shape, parameters in self.groups.items():
            gradient = torch.stack([p.grad for p in parameters])
            held = self.state[shape]
            held.lerp_(gradient, 1 - self.momentum)
            x = gradient.lerp(held, self.momentum).to(torch.bfloat16)
            tall = shape[0] > shape[1]
            x = x.mT if tall else x
            x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            x = (x.mT if tall else x).float()
            scale = self.rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, update in zip(parameters, x):
                p.mul_(1 - self.rate * 0.02).add_(update, alpha=-scale)
