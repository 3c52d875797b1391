"""Golden data of requests that do not keep all of their keys: test/golden/retention.json.

The two rules as their papers have them, on the layers of transformers' models in float32, token by token and without any cache of rotated keys:

- window (StreamingLLM, Xiao et al. 2023): keys are kept as they are before rotation; for each token those that stay are rotated by their place among
  themselves, 0, 1, 2, ..., and the query by the last place. What stays goes by whole blocks, as docs/kv-cache.md says.
- prompt (SnapKV, Li et al. 2024): for each KV head, softmax weights of the last tokens' queries summed over tokens and over the heads that share it, pooled by
  maximum, the largest kept in order; the keys stay rotated as they were.

    python test/golden/make_retention_goldens.py
"""
import json
import os

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
WINDOW = dict(sinks=6, window=37, blockSize=16, prompt=70, generated=230)
PROMPT = dict(kept=48, observing=9, pool=5, prompt=120, generated=24)


def rotated(x, positions, rotary):
    """x [heads, n, d] by positions [n]: halves, as Llama has them."""
    angles = positions.float()[:, None] * rotary.inv_freq[None, :]
    cos = torch.cat([angles, angles], -1).cos() * rotary.attention_scaling
    sin = torch.cat([angles, angles], -1).sin() * rotary.attention_scaling
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def projections(attention, hidden):
    shape = (-1, attention.head_dim)
    q, k, v = (project(hidden).view(shape) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    return q, k, v


def attend(attention, q, keys, values):
    """q [heads, d]; keys, values [kv heads, n, d] -> weights [heads, n] and the output."""
    group = q.shape[0] // keys.shape[0]
    weights = torch.softmax((keys.repeat_interleave(group, 0) @ q[:, :, None])[..., 0] * attention.scaling, -1)
    return weights, (weights[:, None, :] @ values.repeat_interleave(group, 0))[:, 0]


def forward(model, token, mix):
    """Logits after one token; mix(layer, q, k, v) gives the attention output of a layer."""
    hidden = model.model.embed_tokens(torch.tensor(token))
    for number, layer in enumerate(model.model.layers):
        q, k, v = projections(layer.self_attn, layer.input_layernorm(hidden))
        hidden = hidden + layer.self_attn.o_proj(mix(number, q, k, v).reshape(-1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return model.lm_head(model.model.norm(hidden))


def run_window(model, prompt):
    keys, values = [[[] for _ in model.model.layers] for _ in range(2)]
    sink_blocks = -(-WINDOW["sinks"] // WINDOW["blockSize"])

    def visible(index):
        size = WINDOW["blockSize"]
        first = max(sink_blocks, (index + 1 - WINDOW["window"]) // size) * size
        return [i for i in range(index + 1) if i < sink_blocks * size or i >= first]

    def mix(number, q, k, v):
        keys[number].append(k)
        values[number].append(v)
        chosen = visible(len(keys[number]) - 1)
        places = torch.arange(len(chosen))
        stacked = rotated(torch.stack([keys[number][i] for i in chosen], 1), places, model.model.rotary_emb)
        query = rotated(q[:, None], places[-1:], model.model.rotary_emb)[:, 0]
        return attend(model.model.layers[number].self_attn, query, stacked, torch.stack([values[number][i] for i in chosen], 1))[1]

    return greedy(model, prompt, mix, WINDOW["generated"])


def run_prompt(model, prompt):
    layers = len(model.model.layers)
    keys, values, weights = [None] * layers, [None] * layers, [[] for _ in range(layers)]
    seen = [0] * layers
    chosen_of = []

    def mix(number, q, k, v):
        rotary, attention = model.model.rotary_emb, model.model.layers[number].self_attn
        at = torch.tensor([seen[number]])
        k, q = rotated(k[:, None], at, rotary), rotated(q[:, None], at, rotary)[:, 0]
        keys[number] = k if keys[number] is None else torch.cat([keys[number], k], 1)
        values[number] = v[:, None] if values[number] is None else torch.cat([values[number], v[:, None]], 1)
        seen[number] += 1
        found, out = attend(attention, q, keys[number], values[number])
        if PROMPT["prompt"] - PROMPT["observing"] < seen[number] <= PROMPT["prompt"]:
            weights[number].append(found)
        if seen[number] == PROMPT["prompt"]:
            keys[number], values[number], chosen = compress(keys[number], values[number], weights[number])
            chosen_of.append(chosen)
        return out

    tokens, logits, margin = greedy(model, prompt, mix, PROMPT["generated"])
    return tokens, logits, margin, chosen_of


def compress(keys, values, weights):
    candidates = PROMPT["prompt"] - PROMPT["observing"]
    sums = torch.stack([row[:, :candidates] for row in weights]).sum(0).view(keys.shape[0], -1, candidates).sum(1)
    reach = PROMPT["pool"] // 2
    padded = torch.nn.functional.pad(sums, (reach, reach), value=-1.0)
    pooled = torch.stack([padded[:, i : i + candidates] for i in range(PROMPT["pool"])]).max(0).values
    count = PROMPT["kept"] - PROMPT["observing"]
    chosen = [sorted(sorted(range(candidates), key=lambda j: (-row[j].item(), j))[:count]) for row in pooled]
    index = torch.tensor([row + list(range(candidates, PROMPT["prompt"])) for row in chosen])[:, :, None].expand(-1, -1, keys.shape[2])
    return keys.gather(1, index), values.gather(1, index), chosen


def greedy(model, prompt, mix, count):
    tokens, kept, margin = [], {}, float("inf")
    logits = None
    for step, token in enumerate(list(prompt) + [None] * (count - 1)):
        logits = forward(model, tokens[-1] if token is None else token, mix)
        if step < len(prompt) - 1:
            continue
        best = logits.topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        if len(tokens) in (1, 2, 20, count // 2, count):
            kept[len(prompt) + len(tokens) - 1] = logits.tolist()
    return tokens, kept, margin


def rounded(logits):
    return [dict(length=length, values=[float(f"{value:.7g}") for value in values]) for length, values in logits.items()]


def make(name):
    model = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(HERE, name), dtype=torch.float32).eval()
    for seed in range(300):
        generator = torch.Generator().manual_seed(3000 + seed)
        prompts = [torch.randint(3, model.config.vocab_size, (rule["prompt"],), generator=generator).tolist() for rule in (WINDOW, PROMPT)]
        window, window_logits, window_margin = run_window(model, prompts[0])
        if window_margin < 2e-3:
            continue
        kept, kept_logits, kept_margin, chosen = run_prompt(model, prompts[1])
        if kept_margin < 2e-3:
            continue
        print(name, "seed", seed, "margins", window_margin, kept_margin, "distinct", len(set(window)), len(set(kept)))
        return dict(
            window=dict(prompt=prompts[0], greedy=window, logits=rounded(window_logits)),
            prompt=dict(prompt=prompts[1], greedy=kept, logits=rounded(kept_logits), chosen=chosen),
        )
    raise SystemExit(f"{name}: no seed has clear margins")


if __name__ == "__main__":
    with torch.no_grad():
        models = {name: make(name) for name in ("llama-yarn", "qwen3")}
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__}"
    with open(os.path.join(HERE, "retention.json"), "w", encoding="utf8") as file:
        json.dump(dict(madeWith=made_with, window=WINDOW, prompt=PROMPT, models=models), file, separators=(",", ":"))
        file.write("\n")
