"""Trains the pocket model: tokenizer, then a small Llama, from the output of generate.py. Seeded; resumes from its last checkpoint.

    python pocket/train.py --data build/pocket/train.jsonl --work build/pocket --out pocket/model --minutes 40

Only what the assistant says counts in the loss. A batch holds conversations of about one length, `--tokens` in all.
"""
import argparse
import json
import os
import re
import time
from pathlib import Path

import jinja2.sandbox
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
TEMPLATE = (Path(__file__).parent / "chat-template.jinja").read_text()
CONTEXT = 2048
# the opening of a thought is part of the prompt, so that whoever asks decides whether it thinks
SAID = re.compile(r"<\|im_start\|>assistant\n(?:<think>\n)?(.*?<\|im_end\|>)", re.S)


def template():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return environment.from_string(TEMPLATE)


def render(compiled, row, **options):
    return compiled.render(messages=row["messages"], tools=row.get("tools"), **options)


def train_tokenizer(texts, vocab_size, path):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    t.save(str(path))


def encode(t, texts, longest):
    """(ids, targets) of each text, targets -100 where the assistant is not speaking; longer texts are left out."""
    kept = []
    for text, e in zip(texts, t.encode_batch(texts)):
        if len(e.ids) > longest:
            continue
        spoken = [m.span(1) for m in SAID.finditer(text)]
        targets = [i if any(a <= start < b for a, b in spoken) else -100 for i, (start, _) in zip(e.ids, e.offsets)]
        kept.append((torch.tensor(e.ids), torch.tensor(targets)))
    return kept


def padded(rows):
    ids = torch.nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True, padding_value=0)
    targets = torch.nn.utils.rnn.pad_sequence([r[1] for r in rows], batch_first=True, padding_value=-100)
    return ids, targets


def batches(rows, budget, generator):
    """Endlessly: all rows in a new order, neighbours in length together, at most `budget` tokens with padding."""
    while True:
        noise = torch.rand(len(rows), generator=generator) * 8
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + noise[i].item())
        groups, group = [], []
        for i in order:
            if group and (len(group) + 1) * len(rows[i][0]) > budget:
                groups.append(group)
                group = []
            group.append(i)
        groups.append(group)
        for g in torch.randperm(len(groups), generator=generator).tolist():
            yield padded([rows[i] for i in groups[g]])


def loss_of(model, ids, targets, reduction="mean"):
    hidden = model.model(ids[:, :-1]).last_hidden_state
    wanted = targets[:, 1:]
    mask = wanted != -100
    logits = model.lm_head(hidden[mask]).float()
    return torch.nn.functional.cross_entropy(logits, wanted[mask], reduction=reduction), int(mask.sum())


def save(model, tokenizer_path, out, notice):
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size="15MB")
    model.to(torch.float32)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "millrace_notice": notice}, indent=2) + "\n")
    text = json.loads(tokenizer_path.read_text())
    for token in text["added_tokens"]:
        # thoughts and calls are part of what is read; only the marks of a turn are hidden
        token["special"] = token["content"].startswith("<|")
    (out / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")
    tokenizer = {
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "add_bos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    (out / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "pad_token_id": 0, "temperature": 0.3, "top_p": 0.9, "do_sample": True}, indent=1) + "\n")


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--work", type=Path, required=True, help="tokenizer and checkpoint; training goes on from what is there")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--init", type=Path, help="checkpoint of other training of the same shape and tokenizer: its weights are the start")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--steps", type=int, default=20000, help="1: write the model of the last checkpoint")
    p.add_argument("--longest", type=int, default=288, help="tokens of a conversation; longer ones are left out")
    p.add_argument("--tokens", type=int, default=4096, help="a batch, padding included")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--bf16", action="store_true", help="matrix products in bf16; the weights stay f32")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--rate", type=float, default=3e-3)
    return p.parse_args()


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    a.work.mkdir(parents=True, exist_ok=True)
    compiled = template()
    texts = [render(compiled, json.loads(line)) for line in open(a.data)]
    tokenizer_path = a.work / "tokenizer.json"
    if not tokenizer_path.exists():
        train_tokenizer(texts[300:], a.vocab, tokenizer_path)
    t = Tokenizer.from_file(str(tokenizer_path))
    test, rows = encode(t, texts[:300], CONTEXT), encode(t, texts[300:], a.longest)
    config = LlamaConfig(
        vocab_size=t.get_vocab_size(), hidden_size=a.hidden, intermediate_size=3 * a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.hidden // 32,
        num_key_value_heads=max(1, a.hidden // 64), head_dim=32, max_position_embeddings=CONTEXT, tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=2, pad_token_id=0, initializer_range=0.04,
    )
    model = LlamaForCausalLM(config).to(a.device)
    parameters = sum(x.numel() for x in model.parameters())
    print("parameters", parameters, "conversations", len(rows), "tokens", sum(len(r[0]) for r in rows), "spoken", sum(int((r[1] != -100).sum()) for r in rows), flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.rate, betas=(0.9, 0.98), weight_decay=0.02)
    checkpoint, step, spent = a.work / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=a.device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    elif a.init:
        model.load_state_dict(torch.load(a.init, weights_only=True, map_location=a.device)["model"])
    started, saved = time.time() - spent, time.time()
    source = batches(rows, a.tokens, torch.Generator().manual_seed(a.seed + step))

    def keep():
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": time.time() - started}, temporary)
        os.replace(temporary, checkpoint)

    average = None
    while True:
        # the rate follows whichever runs out first, steps or minutes, so that a shared machine still ends annealed
        progress = max(step / a.steps, (time.time() - started) / (60 * a.minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = a.rate * min(1.0, (step + 1) / 30) * (1 - progress) + 1e-5
        ids, targets = (x.to(a.device) for x in next(source))
        with torch.autocast(a.device, torch.bfloat16, enabled=a.bf16):
            loss, _ = loss_of(model, ids, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        average = loss.item() if average is None else 0.95 * average + 0.05 * loss.item()
        if step % 10 == 0:
            print(f"step {step} loss {average:.3f} minutes {(time.time() - started) / 60:.1f}", flush=True)
        if time.time() - saved > 300:
            keep()
            saved = time.time()
    keep()
    model.eval()
    with torch.no_grad():
        parts = [loss_of(model, *(x.to(a.device) for x in padded([r])), reduction="sum") for r in test]
    print("held-out loss per token the assistant says", round(sum(x[0].item() for x in parts) / sum(x[1] for x in parts), 4), flush=True)
    size = f"{parameters / 1e6:.2f} million parameters"
    save(model.cpu(), tokenizer_path, a.out, f"Pocket is a demonstration model of {size}: it chats a little and makes many mistakes. Name a bigger one with --model PATH.")


if __name__ == "__main__":
    main()
