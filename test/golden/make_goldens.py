"""Makes the golden data of this folder: tiny random checkpoints and what Hugging Face transformers computes with them.

Run: python test/golden/make_goldens.py [name ...]     (needs torch, transformers, safetensors; made with the versions in each expected.json)

Each case becomes a folder: config.json, model.safetensors, expected.json with a prompt, its greedy continuation and the logits after some
positions, all computed in float32 with eager attention and no cache. Weights are drawn so that logits spread; of several seeds the first is
taken whose greedy choices all win by a clear margin, so that a rounding difference between engines cannot change a token.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM,
    BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, Glm4Config,
    Glm4ForCausalLM, Glm4MoeConfig, Glm4MoeForCausalLM, GlmConfig, GlmForCausalLM, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, GptOssConfig, GptOssForCausalLM, GraniteConfig, GraniteForCausalLM,
    GraniteMoeConfig, GraniteMoeForCausalLM,
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM, Olmo2Config, Olmo2ForCausalLM,
    OlmoeConfig, OlmoeForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, SmolLM3Config, SmolLM3ForCausalLM, Starcoder2Config, Starcoder2ForCausalLM,
)

HERE = pathlib.Path(__file__).parent
PROMPT_TOKENS = 48
NEW_TOKENS = 28
MIN_MARGIN = 0.03

small = dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)


# widths of heads and ranks all different, none a whole tile
deepseek = dict(**{**small, "num_key_value_heads": 4}, kv_lora_rank=32, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=20, moe_intermediate_size=40, n_shared_experts=2,
                n_routed_experts=8, num_experts_per_tok=3, first_k_dense_replace=1, tie_word_embeddings=False)


def deepseek_yarn(mscale, all_dim):
    return dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1, mscale=mscale, mscale_all_dim=all_dim)


def sliding(*kinds):
    return ["sliding_attention" if kind == "s" else "full_attention" for kind in kinds]


neox = dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)
falcon = dict(vocab_size=300, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)


# Families that transformers lacks are Llama but for how tensors are stored and, in one, where positions come in: what transformers computes as Llama is
# stored as their authors' code reads it.


def stored_as(folder, rename, config):
    """Rewrites a saved Llama: `rename` turns its tensors into those of another family, `config` its configuration."""
    tensors = rename(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata=dict(format="pt"))
    path = folder / "config.json"
    path.write_text(json.dumps(config(json.loads(path.read_text())), indent=2) + "\n")


def as_internlm2(folder):
    words = {"self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
             "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm", "embed_tokens": "tok_embeddings", "lm_head": "output"}

    def rename(tensors):
        out = {}
        for name, tensor in tensors.items():
            if ".q_proj." in name:
                q, k, v = (tensors[name.replace("q_proj", letter)].unflatten(0, (2, -1)) for letter in ("q_proj", "k_proj", "v_proj"))
                out[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat([q, k, v], dim=1).flatten(0, 1).contiguous()
            elif ".k_proj." not in name and ".v_proj." not in name:
                for ours, theirs in words.items():
                    name = name.replace(ours, theirs)
                out[name] = tensor
        return out

    stored_as(folder, rename, lambda config: {**config, "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False, "rope_theta": 1000000.0,
                                              "rope_scaling": dict(type="dynamic", factor=2.0), "rope_parameters": None})


def packed(tensors):
    out = {}
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            out[name.replace("q_proj", "W_pack")] = torch.cat([tensors[name.replace("q_proj", letter)] for letter in ("q_proj", "k_proj", "v_proj")])
        elif ".k_proj." not in name and ".v_proj." not in name:
            out[name] = tensor
    return out


def as_chatglm(folder):
    words = {"self_attn.o_proj": "self_attention.dense", "mlp.gate_up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h", "self_attn.W_pack":
             "self_attention.query_key_value", "model.embed_tokens": "transformer.embedding.word_embeddings", "model.norm": "transformer.encoder.final_layernorm",
             "lm_head": "transformer.output_layer", "model.layers": "transformer.encoder.layers"}

    def rename(tensors):
        out = {}
        for name, tensor in packed(tensors).items():
            for ours, theirs in words.items():
                name = name.replace(ours, theirs)
            out[name] = tensor
        return out

    stored_as(folder, rename, lambda config: dict(architectures=["ChatGLMModel"], model_type="chatglm", num_layers=config["num_hidden_layers"], padded_vocab_size=
        config["vocab_size"], hidden_size=config["hidden_size"], ffn_hidden_size=config["intermediate_size"], kv_channels=config["head_dim"], num_attention_heads=
        config["num_attention_heads"], multi_query_attention=True, multi_query_group_num=config["num_key_value_heads"], seq_length=config["max_position_embeddings"],
        layernorm_epsilon=config["rms_norm_eps"], add_qkv_bias=True, add_bias_linear=False, rmsnorm=True, post_layer_norm=True, rope_ratio=50, eos_token_id=2))


def as_baichuan(folder):
    stored_as(folder, packed, lambda config: {**config, "architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan"})


def as_baichuan_13b(folder):
    def change(config):
        length = config.pop("max_position_embeddings")
        config.pop("rope_parameters", None)
        return {**config, "architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", "model_max_length": length}

    stored_as(folder, packed, change)


def as_fused(folder):
    """Experts as models of transformers 5 hold them, gate and up of all in one tensor, where their files have one for each."""
    def rename(tensors):
        out = {}
        for name, tensor in tensors.items():
            before, experts, rest = name.partition(".experts.")
            if not experts:
                out[name] = tensor
            elif rest == "0.gate_proj.weight":
                every = range(sum(other.startswith(before + experts) and other.endswith("gate_proj.weight") for other in tensors))
                stack = {word: torch.stack([tensors[f"{before}{experts}{e}.{word}.weight"] for e in every]) for word in ("gate_proj", "up_proj", "down_proj")}
                out[before + ".experts.gate_up_proj"] = torch.cat([stack["gate_proj"], stack["up_proj"]], dim=1)
                out[before + ".experts.down_proj"] = stack["down_proj"].contiguous()
        return out

    stored_as(folder, rename, lambda config: config)


MXFP4_LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def mxfp4(matrix):
    """Codes and exponents of groups of 32 along the last dimension, and what they stand for. OCP Microscaling Formats 1.0."""
    groups = matrix.unflatten(-1, (-1, 32))
    exponent = torch.floor(torch.log2(groups.abs().amax(-1))).clamp(min=-100) - 2
    scaled = groups / 2.0 ** exponent[..., None]
    code = (scaled.abs()[..., None] - MXFP4_LEVELS).abs().argmin(-1)
    value = MXFP4_LEVELS[code] * scaled.sign() * 2.0 ** exponent[..., None]
    code = code + 8 * (scaled < 0)
    blocks = (code[..., 0::2] | code[..., 1::2] << 4).to(torch.uint8)
    return blocks, (exponent + 127).to(torch.uint8), value.flatten(-2)


def round_to_mxfp4(model):
    for name, parameter in model.named_parameters():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            parameter.data = mxfp4(parameter.data.transpose(1, 2))[2].transpose(1, 2).contiguous()


def as_mxfp4(folder):
    def rename(tensors):
        out = {}
        for name, tensor in tensors.items():
            if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
                out[name + "_blocks"], out[name + "_scales"], value = mxfp4(tensor.float().transpose(1, 2))
                assert torch.equal(value, tensor.float().transpose(1, 2))
            else:
                out[name] = tensor
        return out

    stored_as(folder, rename, lambda config: {**config, "quantization_config": dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn",
        "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])})


def run_alibi(model, ids):
    """Llama whose tokens all stand at position 0, which rotates nothing, with the biases of ALiBi in its mask."""
    count, heads = len(ids), model.config.num_attention_heads
    places = torch.arange(count)
    slopes = torch.tensor([2.0 ** (-8 * (head + 1) / heads) for head in range(heads)])
    bias = slopes[:, None, None] * (places[None, None, :] - places[None, :, None])
    bias = bias.masked_fill(places[None, None, :] > places[None, :, None], float("-inf"))
    return model(torch.tensor([ids]), position_ids=torch.zeros(1, count, dtype=torch.long), attention_mask=bias[None], use_cache=False).logits[0]


# name -> (class, configuration, stored dtype, how it is stored where not as saved, how it is run where not plainly, how its weights are rounded)
CASES = {
    "llama-llama3": (LlamaForCausalLM, LlamaConfig(**small, attention_bias=True, mlp_bias=True, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), torch.float32),
    "llama-yarn": (LlamaForCausalLM, LlamaConfig(**{**small, "head_dim": 24}, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=32)), torch.float32),
    "llama-linear-bf16": (LlamaForCausalLM, LlamaConfig(**{**small, "max_position_embeddings": 128}, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="linear", rope_theta=10000.0, factor=2.0)), torch.bfloat16),
    "mistral": (MistralForCausalLM, MistralConfig(**small, sliding_window=16, tie_word_embeddings=False), torch.float32),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**small, use_sliding_window=False, tie_word_embeddings=True), torch.float32),
    "qwen2-window": (Qwen2ForCausalLM, Qwen2Config(**small, use_sliding_window=True, sliding_window=16, max_window_layers=1, tie_word_embeddings=False), torch.float32),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**{**small, "head_dim": 32}, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), torch.float32),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**{**small, "head_dim": 16}, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
        final_logit_softcapping=10.0), torch.float32),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**{**small, "head_dim": 16}, sliding_window=16, query_pre_attn_scalar=24, layer_types=sliding("s", "s", "f"), rope_parameters=dict(
        full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0), sliding_attention=dict(rope_type="default", rope_theta=10000.0))), torch.float32),
    "phi3": (Phi3ForCausalLM, Phi3Config(**small, sliding_window=20, original_max_position_embeddings=32, rope_parameters=dict(rope_type="longrope", rope_theta=10000.0,
        partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3, 1.5, 2.0, 3.0], long_factor=[1.0, 1.5, 2.0, 4.0, 6.0, 8.0])), torch.float32),
    "phi3-short": (Phi3ForCausalLM, Phi3Config(**small, original_max_position_embeddings=128, tie_word_embeddings=True, rope_parameters=dict(rope_type="longrope",
        rope_theta=10000.0, partial_rotary_factor=1.0, short_factor=[1.0, 1.1, 1.3, 1.5, 2.0, 3.0, 3.5, 4.0], long_factor=[8.0] * 8)), torch.bfloat16),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(**{**small, "num_hidden_layers": 4}, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="default", rope_theta=5000000.0)), torch.float32),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config(**small, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=500000.0)), torch.float32),
    "granite": (GraniteForCausalLM, GraniteConfig(**small, attention_bias=True, mlp_bias=True, embedding_multiplier=3.0, residual_multiplier=0.7, attention_multiplier=0.2,
        logits_scaling=0.5), torch.float32),
    "glm4": (Glm4ForCausalLM, Glm4Config(**{**small, "head_dim": 24}, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)), torch.float32),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**neox, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=10000.0,
        partial_rotary_factor=0.25)), torch.float32),
    "gpt-neox-serial": (GPTNeoXForCausalLM, GPTNeoXConfig(**neox, use_parallel_residual=False, attention_bias=False, tie_word_embeddings=False, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0)), torch.bfloat16),
    "falcon-7b": (FalconForCausalLM, FalconConfig(**falcon, multi_query=True, parallel_attn=True, new_decoder_architecture=False), torch.float32),
    "falcon-40b": (FalconForCausalLM, FalconConfig(**falcon, num_kv_heads=2, new_decoder_architecture=True, tie_word_embeddings=False), torch.float32),
    "falcon-rw": (FalconForCausalLM, FalconConfig(**falcon, multi_query=False, parallel_attn=False, new_decoder_architecture=False, alibi=True, bias=True, tie_word_embeddings=False), torch.float32),
    "starcoder2": (Starcoder2ForCausalLM, Starcoder2Config(**small, use_bias=True, sliding_window=20, tie_word_embeddings=False), torch.float32),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=300, n_positions=128, n_embd=64, n_layer=3, n_head=4, n_inner=96, scale_attn_by_inverse_layer_idx=True, bos_token_id=1,
        eos_token_id=2), torch.float32),
    "bloom": (BloomForCausalLM, BloomConfig(vocab_size=300, hidden_size=96, n_layer=3, n_head=6, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False), torch.float32),
    "internlm2": (LlamaForCausalLM, LlamaConfig(**small, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), torch.float32, as_internlm2),
    "baichuan-7b": (LlamaForCausalLM, LlamaConfig(**{**small, "num_key_value_heads": 4}, tie_word_embeddings=False), torch.float32, as_baichuan),
    "baichuan-13b": (LlamaForCausalLM, LlamaConfig(**{**small, "num_key_value_heads": 4}, tie_word_embeddings=False), torch.float32, as_baichuan_13b, run_alibi),
    "chatglm": (GlmForCausalLM, GlmConfig(**{**small, "head_dim": 16}, attention_bias=True, rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default",
        rope_theta=500000.0, partial_rotary_factor=0.5)), torch.float32, as_chatglm),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**{**small, "intermediate_size": 40}, num_local_experts=5, num_experts_per_tok=2, sliding_window=20), torch.float32),
    "qwen2-moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig(**small, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=56,
        norm_topk_prob=False), torch.float32),
    "qwen3-moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig(**{**small, "head_dim": 32}, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=True),
        torch.float32),
    "qwen3-moe-fused": (Qwen3MoeForCausalLM, Qwen3MoeConfig(**small, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, mlp_only_layers=[1]),
        torch.bfloat16, as_fused),
    "gpt-oss": (GptOssForCausalLM, GptOssConfig(**{**small, "head_dim": 16, "intermediate_size": 40}, num_local_experts=5, num_experts_per_tok=2, sliding_window=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=150000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=32)), torch.float32),
    "gpt-oss-mxfp4": (GptOssForCausalLM, GptOssConfig(**{**small, "head_dim": 16, "intermediate_size": 32}, num_local_experts=4, num_experts_per_tok=2, sliding_window=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=150000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=32)), torch.bfloat16, as_mxfp4,
        None, round_to_mxfp4),
    "glm4-moe": (Glm4MoeForCausalLM, Glm4MoeConfig(**{**small, "head_dim": 24}, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, moe_intermediate_size=40,
        n_group=4, topk_group=2, routed_scaling_factor=1.5, use_qk_norm=True, attention_bias=True, first_k_dense_replace=1), torch.float32),
    "olmoe": (OlmoeForCausalLM, OlmoeConfig(**{**small, "intermediate_size": 24}, num_experts=6, num_experts_per_tok=3), torch.float32),
    "granite-moe": (GraniteMoeForCausalLM, GraniteMoeConfig(**{**small, "intermediate_size": 40}, num_local_experts=5, num_experts_per_tok=2, embedding_multiplier=3.0, residual_multiplier=0.7,
        attention_multiplier=0.2, logits_scaling=0.5), torch.float32),
    "deepseek-v2": (DeepseekV2ForCausalLM, DeepseekV2Config(**deepseek, q_lora_rank=24, topk_method="group_limited_greedy", n_group=4, topk_group=2,
        routed_scaling_factor=2.5, rope_parameters=deepseek_yarn(0.707, 0.5)), torch.float32),
    "deepseek-v2-lite": (DeepseekV2ForCausalLM, DeepseekV2Config(**deepseek, q_lora_rank=None, topk_method="greedy"), torch.bfloat16),
    "deepseek-v3": (DeepseekV3ForCausalLM, DeepseekV3Config(**deepseek, q_lora_rank=24, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
        attention_bias=True, rope_parameters=deepseek_yarn(1.0, 1.0)), torch.float32),
    "glm4-glm": (GlmForCausalLM, GlmConfig(**{**small, "head_dim": 16}, attention_bias=True), torch.float32),
}


FINAL_NORMS = ("model.norm.weight", "transformer.ln_f.weight")


def randomise(model, seed):
    """Draws all weights: matrices keep unit variance, q and k a little more so that attention is uneven, norms about 1, biases about 0.

    Tied embeddings are small beside what the layers add, or each token would predict itself; the final norm makes up for it.
    """
    generator = torch.Generator().manual_seed(seed)
    gemma = "Gemma" in type(model).__name__
    tied = model.config.tie_word_embeddings
    embedding = 0.3 if tied else 1.0
    if gemma:
        embedding /= model.config.hidden_size**0.5
    embeddings = {name for name, parameter in model.named_parameters() if parameter is model.get_input_embeddings().weight}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            center = 0.0
            if name in FINAL_NORMS and tied:
                center = 0.3 / embedding * 2
            elif name.endswith(".weight"):
                center = 1.0
            parameter.data = center - (1.0 if gemma and "norm" in name else 0.0) + 0.2 * noise
        elif name in embeddings:
            parameter.data = noise * embedding
        elif ".wpe." in name:
            parameter.data = noise * 0.3
        else:
            # GPT-2 and the experts of gpt-oss are stored [inputs, outputs]
            turned = isinstance(model, GPT2LMHeadModel) or (isinstance(model, GptOssForCausalLM) and parameter.dim() == 3)
            inputs = parameter.shape[-2 if turned else -1]
            if name.endswith("_bias"):
                inputs = 25
            parameter.data = noise * (1.5 if "q_proj" in name or "k_proj" in name else 1.0) / inputs ** 0.5


def draw_corrections(model, seed):
    generator = torch.Generator().manual_seed(2000 + seed)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))


def run_plain(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def run(model, prompt, logits_of):
    """Greedy continuation, the smallest margin by which a choice won, and all logits of the last pass."""
    ids = list(prompt)
    margin = float("inf")
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            logits = logits_of(model, ids)
            best = torch.topk(logits[-1], 2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
        logits = logits_of(model, ids)
    return ids[len(prompt):], margin, logits


def make(name):
    cls, config, dtype, *special = CASES[name]
    config.dtype = torch.float32
    for seed in range(500):
        torch.manual_seed(seed)
        # eager attention of this Falcon adds the biases of ALiBi twice: in the mask, and again by itself
        config._attn_implementation = "sdpa" if getattr(config, "alibi", False) else "eager"
        model = cls(config).eval().float()
        randomise(model, seed)
        draw_corrections(model, seed)
        for parameter in model.parameters():  # not model.to(): that would round the rotary table too
            parameter.data = parameter.data.to(dtype).float()
        if len(special) > 2:
            special[2](model)
        generator = torch.Generator().manual_seed(1000 + seed)
        prompt = torch.randint(3, config.vocab_size, (PROMPT_TOKENS,), generator=generator).tolist()
        greedy, margin, logits = run(model, prompt, special[1] if len(special) > 1 and special[1] else run_plain)
        if margin > MIN_MARGIN and len(set(greedy)) > 6:
            break
    else:
        raise SystemExit(f"{name}: no seed has clear margins")
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if special:
        special[0](folder)
    positions = [0, 7, 23, PROMPT_TOKENS - 1, PROMPT_TOKENS + NEW_TOKENS - 1]
    expected = dict(
        madeWith=f"transformers {transformers.__version__}, torch {torch.__version__}, seed {seed}",
        prompt=prompt,
        greedy=greedy,
        smallestMargin=round(margin, 4),
        logits=[dict(position=p, values=[round(x, 5) for x in logits[p].tolist()]) for p in positions],
    )
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    print(name, "seed", seed, "margin", round(margin, 4), "logits within", round(logits.abs().max().item(), 2), "distinct", len(set(greedy)))


for chosen in sys.argv[1:] or CASES:
    make(chosen)
