"""Writes GGUF files with random weights in the shape of a Qwen2 config.json, for engines that read only GGUF.

python make_gguf.py ../shapes/qwen2.5-0.5b/config.json OUT_FOLDER

Writes model.bf16.gguf, model.q8_0.gguf and model.q4_0.gguf (its embedding, which is its output matrix too, in Q8_0). The tokenizer is a stand-in: every id has a name, nobody tokenizes with it.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np


def vocabulary(size):
    names = [chr(c) for c in range(33, 127)] + ["ab"]
    names += [f"[{i}]" for i in range(len(names), size)]
    return [name.encode() for name in names]


def weights(config):
    """Yields (name, float32 array), the same for every format."""
    rng = np.random.default_rng(1)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * head

    def matrix(rows, columns):
        return (rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).astype(np.float32)

    yield "token_embd.weight", matrix(config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", np.ones(hidden, np.float32)
        for part, rows in (("q", hidden), ("k", kv), ("v", kv)):
            yield f"{block}.attn_{part}.weight", matrix(rows, hidden)
            yield f"{block}.attn_{part}.bias", np.zeros(rows, np.float32)
        yield f"{block}.attn_output.weight", matrix(hidden, hidden)
        yield f"{block}.ffn_norm.weight", np.ones(hidden, np.float32)
        yield f"{block}.ffn_gate.weight", matrix(inner, hidden)
        yield f"{block}.ffn_up.weight", matrix(inner, hidden)
        yield f"{block}.ffn_down.weight", matrix(hidden, inner)
    yield "output_norm.weight", np.ones(hidden, np.float32)


def write(config, path, quantization, file_type, embedding=None):
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
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
    for name, values in weights(config):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = embedding if embedding is not None and name == "token_embd.weight" else quantization
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")


def main():
    config = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    types = gguf.GGMLQuantizationType
    write(config, folder / "model.bf16.gguf", types.BF16, gguf.LlamaFileType.MOSTLY_BF16)
    write(config, folder / "model.q8_0.gguf", types.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)
    write(config, folder / "model.q4_0.gguf", types.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0, embedding=types.Q8_0)


if __name__ == "__main__":
    main()
