"""Copies a small Llama GGUF file in F32 to one with rows long enough for the super-blocks of K-quants, such that in exact arithmetic it stays the same model.

python widen.py IN.gguf OUT.gguf [--width 256]

The hidden state h becomes U h, U a random matrix of orthonormal columns: norms are folded into the matrices that read them, which become W diag(norm) U^T over the
square root of the growth, matrices that write it U W. The rows of gate and up, and the columns of down, are filled up with zeros. Queries, keys and values stay.
"""

import argparse

import gguf
import numpy as np
from plant_outliers import copy_fields

READ_BY = {"attn_q": "attn_norm", "attn_k": "attn_norm", "attn_v": "attn_norm", "ffn_gate": "ffn_norm", "ffn_up": "ffn_norm"}


def widened(tensors, width):
    hidden = tensors["output_norm.weight"].shape[0]
    inner = next(t for name, t in tensors.items() if "ffn_up" in name).shape[0]
    inner = -inner % width
    u = np.linalg.qr(np.random.default_rng(1).standard_normal((width, hidden)))[0]
    growth = np.sqrt(width / hidden)
    out = {"token_embd.weight": tensors["token_embd.weight"] @ u.T, "output_norm.weight": np.ones(width)}
    head = tensors.get("output.weight", tensors["token_embd.weight"])
    out["output.weight"] = (head * tensors["output_norm.weight"]) @ u.T / growth
    for name, values in tensors.items():
        if not name.startswith("blk."):
            continue
        layer, part = name.removesuffix(".weight").rsplit(".", 1)
        if part in READ_BY:
            values = (values * tensors[f"{layer}.{READ_BY[part]}.weight"]) @ u.T / growth
            if part.startswith("ffn"):
                values = np.pad(values, ((0, inner), (0, 0)))
        elif part.endswith("norm"):
            values = np.ones(width)
        elif part == "ffn_down":
            values = np.pad(u @ values, ((0, 0), (0, inner)))
        else:
            values = u @ values
        out[name] = values
    return {name: values.astype(np.float32) for name, values in out.items()}, growth


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--width", type=int, default=256)
    args = parser.parse_args()
    reader = gguf.GGUFReader(args.source)
    given = {t.name: np.asarray(t.data, np.float64).reshape([int(n) for n in reversed(t.shape)]) for t in reader.tensors}
    tensors, growth = widened(given, args.width)
    key = lambda name: reader.fields[f"llama.{name}"].contents()
    head = key("embedding_length") // key("attention.head_count")
    changed = {
        "llama.embedding_length": args.width,
        "llama.feed_forward_length": tensors["blk.0.ffn_up.weight"].shape[0],
        "llama.attention.layer_norm_rms_epsilon": key("attention.layer_norm_rms_epsilon") / growth**2,
    }
    writer = gguf.GGUFWriter(args.target, "llama")
    copy_fields(reader, writer, changed)
    for name in ("key_length", "value_length"):
        if f"llama.attention.{name}" not in reader.fields:
            writer.add_uint32(f"llama.attention.{name}", head)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
