"""PyTorch on the CPU with Hugging Face transformers: prefill and decode tokens/s of random weights in the shape of a config.json.

Prints JSON of the same shape as `millrace bench offline --json`. Settings: bf16 (oneDNN), SDPA attention, inference mode, the logits of the last
position only, a preallocated prompt; `--compile` adds torch.compile, which needs a C++ compiler and a minute.
"""

import argparse
import json
import statistics
import time

import torch
import transformers


def numbers(text):
    return [int(part) for part in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill-batch-size", type=numbers, default=[1])
    parser.add_argument("--batch-size", type=numbers, default=[1, 8, 16])
    parser.add_argument("--input-len", type=int, default=512)
    parser.add_argument("--decode-input-len", type=int, default=32)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--depth", type=numbers, default=[])
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def prefill_rate(model, vocab_size, rows, length):
    prompt = torch.randint(16, vocab_size, (rows, length))
    start = time.perf_counter()
    logits = model(input_ids=prompt, use_cache=True, logits_to_keep=1).logits
    logits[:, -1].argmax(-1)
    return rows * length / (time.perf_counter() - start)


def decode_rate(model, vocab_size, rows, length, output_len):
    prompt = torch.randint(16, vocab_size, (rows, length))
    out = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    start = time.perf_counter()
    for _ in range(output_len - 1):
        out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
    return rows * (output_len - 1) / (time.perf_counter() - start)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    config = transformers.AutoConfig.from_pretrained(args.config)
    dtype = getattr(torch, args.dtype)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
    if args.compile:
        model = torch.compile(model)
    often = (args.warmup, args.repetitions)
    jobs = [("prefill", rows, args.input_len, 1, *often) for rows in args.prefill_batch_size]
    jobs += [("decode", rows, args.decode_input_len, args.output_len, *often) for rows in args.batch_size]
    jobs += [("decode", 1, length, args.output_len, 0, 1) for length in args.depth]
    results = []
    with torch.inference_mode():
        for phase, rows, length, output_len, warmup, repetitions in jobs:
            rates = []
            for i in range(warmup + repetitions):
                if phase == "prefill":
                    rate = prefill_rate(model, config.vocab_size, rows, length)
                else:
                    rate = decode_rate(model, config.vocab_size, rows, length, output_len)
                if i >= warmup:
                    rates.append(rate)
            spread = {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}
            results.append({"phase": phase, "batchSize": rows, "inputLen": length, "outputLen": output_len, "tokensPerSecond": spread, "hostMsPerStep": None})
    engine = f"torch {torch.__version__} transformers {transformers.__version__} {args.dtype}"
    print(json.dumps({"engine": engine, "model": args.config, "results": results}))


if __name__ == "__main__":
    main()
