"""Copies a Llama GGUF file in F32 with outliers planted, such that in exact arithmetic it stays the same model.

python plant_outliers.py IN.gguf OUT.gguf [--factor 16]

In each layer some channels of a norm are multiplied by the factor and the columns that read them divided by it (activations with outliers), others
divided and multiplied (weights with outliers), as trained models have both.
"""

import argparse
import re

import gguf
import numpy as np

READERS = {"attn_norm": ("attn_q", "attn_k", "attn_v"), "ffn_norm": ("ffn_gate", "ffn_up")}
LOUD, QUIET = (5, 37), (11, 50)  # channels whose activations grow, and whose weights do


def copy_fields(reader, writer, changed={}):
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == gguf.Keys.General.ARCHITECTURE:
            continue
        kind = field.types[0]
        writer.add_key_value(name, changed.get(name, field.contents()), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)


def planted(name, values, factor):
    match = re.match(r"(blk\.\d+\.)(\w+)\.weight", name)
    if match is None:
        return values
    part = match.group(2)
    values = values.copy()
    if part in READERS:
        values[list(LOUD)] *= factor
        values[list(QUIET)] /= factor
    elif any(part in readers for readers in READERS.values()):
        values[:, list(LOUD)] /= factor
        values[:, list(QUIET)] *= factor
    return values


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--factor", type=float, default=16)
    args = parser.parse_args()
    reader = gguf.GGUFReader(args.source)
    writer = gguf.GGUFWriter(args.target, reader.fields[gguf.Keys.General.ARCHITECTURE].contents())
    copy_fields(reader, writer)
    for tensor in reader.tensors:
        if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            raise SystemExit(f"{tensor.name} is not F32")
        values = np.asarray(tensor.data, np.float32).reshape([int(n) for n in reversed(tensor.shape)])
        writer.add_tensor(tensor.name, planted(tensor.name, values, np.float32(args.factor)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
