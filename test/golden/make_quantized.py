"""Makes the golden data of test/golden/quantized: one tiny Llama, its linears quantised and packed in each way that checkpoints use.

Run: python test/golden/make_quantized.py [name ...]     (needs numpy, torch, transformers, safetensors)

The packing is written here from the documents of each format, in numpy, apart from the reader that it tests: none of the packages that write these
formats was at hand. The expected logits are those of Hugging Face transformers, in float32, with the weights that the formulas give.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent / "quantized"
PROMPT_TOKENS = 24
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def tiny(intermediate=128):
    return LlamaConfig(vocab_size=64, hidden_size=128, intermediate_size=intermediate, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                       max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=True)


def stream(levels, bits, axis):
    """Levels as 32-bit words along an axis: a stream of bits, lowest first."""
    levels = np.moveaxis(levels.astype(np.uint64), axis, -1)
    flat = np.zeros(levels.shape[:-1] + (levels.shape[-1] * bits,), np.uint64)
    for bit in range(bits):
        flat[..., bit::bits] = (levels >> np.uint64(bit)) & np.uint64(1)
    words = (flat.reshape(flat.shape[:-1] + (-1, 32)) << np.arange(32, dtype=np.uint64)).sum(-1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(words, -1, axis)).astype(np.uint32).view(np.int32))


def quantise(weight, group_of, groups, bits, symmetric, dtype):
    """Levels [N, K], scales and zeros [N, groups], rounded to `dtype` as stored, and the weight that they mean."""
    most = 2**bits - 1
    scales = np.zeros((weight.shape[0], groups), np.float32)
    zeros = np.zeros((weight.shape[0], groups), np.int64)
    for g in range(groups):
        part = weight[:, group_of == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        scale = np.abs(part).max(1) / 2 ** (bits - 1) if symmetric else (high - low) / most
        scales[:, g] = torch.from_numpy(scale).to(dtype).float().numpy()
        zeros[:, g] = 2 ** (bits - 1) if symmetric else np.clip(np.round(-low / scales[:, g]), 1, most)
    s, z = scales[:, group_of], zeros[:, group_of]
    levels = np.clip(np.round(weight / s) + z, 0, most).astype(np.int64)
    return levels, scales, zeros, (s * (levels - z)).astype(np.float32)


def groups_of(columns, size, random=None):
    size = columns if size < 0 else size
    order = np.arange(columns) if random is None else random.permutation(columns)
    group_of = np.empty(columns, np.int64)
    group_of[order] = np.arange(columns) // size
    return group_of, columns // size


def gptq(bits, size, symmetric, act_order=False, version="gptq"):
    config = dict(quant_method="gptq", bits=bits, group_size=size, sym=symmetric, desc_act=act_order, checkpoint_format=version)

    def pack(name, weight, random):
        shared = np.random.default_rng(1) if "down" not in name else np.random.default_rng(2)
        group_of, groups = groups_of(weight.shape[1], size, shared if act_order else None)
        levels, scales, zeros, value = quantise(weight, group_of, groups, bits, symmetric, torch.float16)
        stored = (zeros - 1) if version == "gptq" else zeros
        return {
            f"{name}.qweight": stream(levels.T, bits, 0),
            f"{name}.qzeros": stream(stored.T, bits, 1),
            f"{name}.scales": torch.from_numpy(scales.T.copy()).half(),
            f"{name}.g_idx": torch.from_numpy(group_of.astype(np.int32)),
        }, value

    return config, pack


def awq(size):
    def pack(name, weight, random):
        group_of, groups = groups_of(weight.shape[1], size)
        levels, scales, zeros, value = quantise(weight, group_of, groups, 4, False, torch.float16)
        order = np.array([0, 2, 4, 6, 1, 3, 5, 7])

        def words(numbers):  # [*, N] -> [*, N / 8]
            return stream(numbers.reshape(len(numbers), -1, 8)[:, :, order].reshape(len(numbers), -1), 4, 1)

        return {f"{name}.qweight": words(levels.T), f"{name}.qzeros": words(zeros.T), f"{name}.scales": torch.from_numpy(scales.T.copy()).half()}, value

    return dict(quant_method="awq", bits=4, group_size=size, zero_point=True, version="gemm", modules_to_not_convert=None), pack


def compressed(format, weights, activations=None, targets=("Linear",)):
    group = dict(targets=list(targets), weights=weights, input_activations=activations, output_activations=None)
    return dict(quant_method="compressed-tensors", format=format, config_groups=dict(group_0=group), ignore=["lm_head"], quantization_status="compressed")


def packed(bits, size, symmetric, dtype=torch.bfloat16, act_order=False):
    weights = dict(num_bits=bits, type="int", symmetric=symmetric, strategy="channel" if size < 0 else "group", group_size=None if size < 0 else size, actorder="group" if act_order else None)

    def pack(name, weight, random):
        group_of, groups = groups_of(weight.shape[1], size, random if act_order else None)
        levels, scales, zeros, value = quantise(weight, group_of, groups, bits, symmetric, dtype)
        tensors = {
            f"{name}.weight_packed": stream(levels, bits, 1),
            f"{name}.weight_scale": torch.from_numpy(scales).to(dtype),
            f"{name}.weight_shape": torch.tensor(weight.shape),
        }
        if not symmetric:
            tensors[f"{name}.weight_zero_point"] = stream(zeros, bits, 0)
        if act_order:
            tensors[f"{name}.weight_g_idx"] = torch.from_numpy(group_of.astype(np.int32))
        return tensors, value

    return compressed("pack-quantized", weights), pack


def w8a8(dynamic):
    weights = dict(num_bits=8, type="int", symmetric=True, strategy="channel")
    activations = dict(num_bits=8, type="int", symmetric=True, strategy="token" if dynamic else "tensor", dynamic=dynamic)

    def pack(name, weight, random):
        levels, scales, _, value = quantise(weight, np.zeros(weight.shape[1], np.int64), 1, 8, True, torch.bfloat16)
        tensors = {f"{name}.weight": torch.from_numpy((levels - 128).astype(np.int8)), f"{name}.weight_scale": torch.from_numpy(scales).bfloat16()}
        if not dynamic:
            tensors[f"{name}.input_scale"] = torch.tensor([0.05])
        return tensors, value

    return compressed("int-quantized", weights, activations, ("re:.*proj$",)), pack


def e5m2(scaled):
    def pack(name, weight, random):
        w = torch.from_numpy(weight)
        scale = (w.abs().amax(1, keepdim=True) / 57344).float() if scaled else torch.ones(1, 1)
        level = (w / scale).to(torch.float8_e5m2)
        return {f"{name}.weight": level, **({f"{name}.weight_scale": scale} if scaled else {})}, (level.float() * scale).numpy()

    return dict(quant_method="fp8", activation_scheme="dynamic") if scaled else None, pack


def float8(config, kind, scale_name, dtype=torch.float32):
    def pack(name, weight, random):
        w = torch.from_numpy(weight)
        if kind == "tensor":
            largest = w.abs().max().reshape(1)
        elif kind == "channel":
            largest = w.abs().amax(1, keepdim=True)
        else:
            blocks = w.reshape(w.shape[0] // min(128, w.shape[0]), min(128, w.shape[0]), w.shape[1] // 128, 128)
            largest = blocks.abs().amax((1, 3))
        scale = (largest / 448).to(dtype).float()
        if kind == "block":
            spread = scale.repeat_interleave(128, 0)[: w.shape[0]].repeat_interleave(128, 1)[:, : w.shape[1]]
        else:
            spread = scale
        level = (w / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        return {f"{name}.weight": level, f"{name}.{scale_name}": scale.to(dtype)}, (level.float() * spread).numpy()

    return config, pack


NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
                0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], np.float32)


def nf4(double):
    config = dict(quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype="float32")

    def pack(name, weight, random):
        blocks = weight.reshape(-1, 64)
        absmax = np.abs(blocks).max(1).astype(np.float32)
        state = dict(quant_type="nf4", blocksize=64, dtype="float32", shape=list(weight.shape))
        tensors = {f"{name}.weight.quant_map": torch.from_numpy(NF4.copy())}
        if double:
            offset = np.float32(absmax.mean())
            table = np.sort(np.concatenate([-np.linspace(0, 1, 129)[1:], np.linspace(0, 1, 128)])).astype(np.float32)
            shifted = absmax - offset
            padded = np.pad(shifted, (0, -len(shifted) % 256)).reshape(-1, 256)
            nested = np.abs(padded).max(1).astype(np.float32)
            index = np.abs(padded[:, :, None] / nested[:, None, None] - table).argmin(2).reshape(-1)[: len(absmax)].astype(np.uint8)
            absmax = (table[index] * nested[np.arange(len(index)) // 256]).astype(np.float32) + offset
            state |= dict(nested_blocksize=256, nested_dtype="float32", nested_offset=float(offset))
            tensors |= {f"{name}.weight.absmax": torch.from_numpy(index), f"{name}.weight.nested_absmax": torch.from_numpy(nested),
                        f"{name}.weight.nested_quant_map": torch.from_numpy(table)}
        else:
            tensors[f"{name}.weight.absmax"] = torch.from_numpy(absmax)
        code = np.abs(blocks[:, :, None] / absmax[:, None, None] - NF4).argmin(2).astype(np.uint8).reshape(-1)
        tensors[f"{name}.weight"] = torch.from_numpy((code[::2] << 4 | code[1::2]).reshape(-1, 1))
        tensors[f"{name}.weight.quant_state.bitsandbytes__nf4"] = torch.from_numpy(np.frombuffer(json.dumps(state).encode(), np.uint8).copy())
        return tensors, (NF4[code].reshape(-1, 64) * absmax[:, None]).reshape(weight.shape)

    return config, pack


def int8():
    def pack(name, weight, random):
        scb = np.abs(weight).max(1).astype(np.float32)
        level = np.round(weight / scb[:, None] * 127).astype(np.int8)
        tensors = {f"{name}.weight": torch.from_numpy(level), f"{name}.SCB": torch.from_numpy(scb), f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8)}
        return tensors, (level.astype(np.float32) * (scb / np.float32(127))[:, None]).astype(np.float32)

    return dict(quant_method="bitsandbytes", load_in_8bit=True, load_in_4bit=False, llm_int8_threshold=6.0), pack


fp8_weights = dict(num_bits=8, type="float", symmetric=True, strategy="channel")
CASES = {
    "gptq-4bit-g32": gptq(4, 32, True),
    "gptq-4bit-g128-asym": gptq(4, 128, False),
    "gptq-4bit-g32-asym-act-order": gptq(4, 32, False, act_order=True),
    "gptq-3bit-g64-asym": gptq(3, 64, False),
    "gptq-2bit-g32-asym-v2": gptq(2, 32, False, version="gptq_v2"),
    "gptq-8bit-row": gptq(8, -1, True),
    "gptq-8bit-g32-asym-act-order": gptq(8, 32, False, act_order=True),
    "awq-4bit-g64": awq(64),
    "ct-w4a16-g128": packed(4, 128, True),
    "ct-w4a16-g32-asym": packed(4, 32, False),
    "ct-w4a16-g32-act-order": packed(4, 32, True, torch.float16, act_order=True),
    "ct-w8a16-row": packed(8, -1, True),
    "ct-w8a8-dynamic": w8a8(True),
    "ct-w8a8-static": w8a8(False),
    "ct-fp8-row": float8(compressed("float-quantized", fp8_weights, dict(num_bits=8, type="float", strategy="token", dynamic=True)), "channel", "weight_scale", torch.bfloat16),
    "fp8-tensor": float8(dict(quant_method="fp8", activation_scheme="dynamic"), "tensor", "weight_scale"),
    "fp8-block": float8(dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128]), "block", "weight_scale_inv"),
    "fbgemm-fp8": float8(dict(quant_method="fbgemm_fp8", activation_scale_ub=1200.0), "channel", "weight_scale"),
    "fp8-e5m2-row": e5m2(True),
    "e5m2-cast": e5m2(False),
    "bnb-nf4": nf4(False),
    "bnb-nf4-double": nf4(True),
    "bnb-int8": int8(),
}


def make(name):
    config, pack = CASES[name]
    torch.manual_seed(7)
    random = np.random.default_rng(7)
    model = LlamaForCausalLM(tiny(256 if name == "fp8-block" else 128)).eval().float()
    tensors = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if "norm" in key else 1.0 / parameter.shape[-1] ** 0.5) + (1.0 if "norm" in key else 0.0))
            module = key.removesuffix(".weight")
            if any(module.endswith(linear) for linear in LINEARS):
                made, value = pack(module, parameter.numpy().copy(), random)
                tensors |= made
                parameter.copy_(torch.from_numpy(value))
            else:
                parameter.copy_(parameter.half().float())
                tensors[key] = parameter.half()
        prompt = [int(x) for x in random.integers(3, 64, PROMPT_TOKENS)]
        logits = model(torch.tensor([prompt])).logits[0]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = json.loads(model.config.to_json_string(use_diff=False))
    keep = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "bos_token_id",
            "eos_token_id", "tie_word_embeddings", "rms_norm_eps", "hidden_act"]
    text = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16", **{key: text[key] for key in keep}, **({} if config is None else {"quantization_config": config})}
    (folder / "config.json").write_text(json.dumps(text, indent=1) + "\n")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors", metadata=dict(format="pt"))
    places = [0, 7, PROMPT_TOKENS - 1]
    expected = dict(transformers=transformers.__version__, torch=torch.__version__, prompt=prompt, logits={str(at): [float(f"{x:.7g}") for x in logits[at].tolist()] for at in places})
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        make(case)
        print(case)
