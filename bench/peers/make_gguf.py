"""Writes GGUF files with random weights in the shape of a config.json (Qwen2, Llama, OLMoE), for engines that read only GGUF.

python make_gguf.py ../shapes/qwen2.5-0.5b/config.json OUT_FOLDER [--formats bf16,q8_0,q4_0]

Writes model.<format>.gguf for each format; in the q4_0 file the embedding is in Q8_0. Speed does not depend on values, so every matrix is cut
from one pool of random numbers, quantised once: a file takes seconds. The tokenizer is a stand-in: every id has a name, nobody tokenizes with it.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np

types = gguf.GGMLQuantizationType
FORMATS = {
    "bf16": (types.BF16, types.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (types.Q8_0, types.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (types.Q4_0, types.Q8_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
ARCHITECTURES = {"qwen2": "qwen2", "llama": "llama", "olmoe": "olmoe"}
POOL = 2**24  # elements


class Pool:
    """Matrices of one format, each cut from the pool at its own place."""

    def __init__(self, kind):
        self.kind = kind
        values = (np.random.default_rng(1).standard_normal(POOL, dtype=np.float32) * 0.02).reshape(-1, 256)
        self.row_bytes = gguf.quants.quantize(values[:1], kind).view(np.uint8).size
        self.bytes = gguf.quants.quantize(values, kind).view(np.uint8).reshape(-1)
        self.next = 0

    def cut(self, shape):
        size = int(np.prod(shape)) // 256 * self.row_bytes
        self.next = (self.next + 7919 * self.row_bytes) % self.bytes.size
        parts, start = [], self.next
        while size > 0:
            part = self.bytes[start : start + size]
            parts.append(part)
            size -= part.size
            start = 0
        columns = shape[-1] // 256 * self.row_bytes if shape[-1] % 256 == 0 else shape[-1] * self.row_bytes // 256
        return np.concatenate(parts).reshape(*shape[:-1], columns)


def vocabulary(size):
    names = [chr(c) for c in range(33, 127)] + ["ab"]
    names += [f"[{i}]" for i in range(len(names), size)]
    return [name.encode() for name in names]


def tensors(config):
    """Yields (name, shape); one dimension is a norm or a bias."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    experts = config.get("num_experts")
    yield "token_embd.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (hidden,)
        for part, rows in (("q", heads), ("k", kv), ("v", kv)):
            yield f"{block}.attn_{part}.weight", (rows, hidden)
            if config["model_type"] == "qwen2":
                yield f"{block}.attn_{part}.bias", (rows,)
        if config["model_type"] == "olmoe":
            yield f"{block}.attn_q_norm.weight", (heads,)
            yield f"{block}.attn_k_norm.weight", (kv,)
        yield f"{block}.attn_output.weight", (hidden, heads)
        yield f"{block}.ffn_norm.weight", (hidden,)
        if experts is None:
            yield f"{block}.ffn_gate.weight", (inner, hidden)
            yield f"{block}.ffn_up.weight", (inner, hidden)
            yield f"{block}.ffn_down.weight", (hidden, inner)
        else:
            yield f"{block}.ffn_gate_inp.weight", (experts, hidden)
            yield f"{block}.ffn_gate_exps.weight", (experts, inner, hidden)
            yield f"{block}.ffn_up_exps.weight", (experts, inner, hidden)
            yield f"{block}.ffn_down_exps.weight", (experts, hidden, inner)
    yield "output_norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "output.weight", (config["vocab_size"], hidden)


def metadata(writer, config, file_type):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
    elif config["model_type"] == "llama":
        writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(file_type)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary(config["vocab_size"]))
    writer.add_token_types([gguf.TokenType.NORMAL] * config["vocab_size"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def write(config, path, matrix_kind, embedding_kind, file_type):
    writer = gguf.GGUFWriter(str(path), ARCHITECTURES[config["model_type"]], use_temp_file=False)
    metadata(writer, config, file_type)
    pools = {kind: Pool(kind) for kind in {matrix_kind, embedding_kind}}
    random = np.random.default_rng(2)
    for name, shape in tensors(config):
        if name.endswith("ffn_gate_inp.weight"):
            writer.add_tensor(name, (random.standard_normal(shape) * 0.02).astype(np.float32))
        elif len(shape) == 1:
            writer.add_tensor(name, (np.zeros if name.endswith("bias") else np.ones)(shape, np.float32))
        else:
            kind = embedding_kind if name in ("token_embd.weight", "output.weight") else matrix_kind
            writer.add_tensor(name, pools[kind].cut(shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", default=",".join(FORMATS))
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.formats.split(","):
        write(config, args.folder / f"model.{name}.gguf", *FORMATS[name])


if __name__ == "__main__":
    main()
