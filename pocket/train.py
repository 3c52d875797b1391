"""Trains the pocket model: tokenizer, then a small Llama, from the output of generate.py. Seeded; resumes from its last checkpoint.

    python pocket/train.py --data build/pocket/train.jsonl --work build/pocket --out pocket/model --minutes 40

Only what the assistant says counts in the loss. A batch holds conversations of about one length, `--tokens` in all.
"""
import argparse
import json
import os
import time
from datetime import datetime
from pathlib import Path

import jinja2.sandbox
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from network import Muon, Network

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
TEMPLATE = (Path(__file__).parent / "chat-template.jinja").read_text()
CONTEXT = 2048
END = SPECIAL.index("<|im_end|>")


def template():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return environment.from_string(TEMPLATE)


def render(compiled, row, **options):
    return compiled.render(messages=row["messages"], tools=row.get("tools"), **options)


# Words that are hardly ever copied carry the space before them; all other words come without it, so that a word in a sentence and the same word
# between the quotes of JSON are the same tokens. Digits stand alone.
FREQUENT = ("the a an is was in of to and on at it he she they his her with for that this i you my your as be are has have had do does what where which who how said so then very not but all one from or am me by if out up about "
            "into it's their them when will can could would there here no yes did went came saw we our its him been were more only than just after before over under too know please tell give name called likes lives works belongs old").split()
PATTERN = r"'(?:s|t|re|m|ll|d|ve)(?!\p{L})| ?(?:" + "|".join(x for x in FREQUENT if "'" not in x) + r")(?!\p{L})|\p{L}+|\p{N}| ?[^ \n\p{L}\p{N}]+| |\n+"


def train_tokenizer(texts, vocab_size, path):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    t.save(str(path))


def encode(t, texts, longest):
    """(ids, targets) of each text, targets -100 where the assistant is not speaking; longer texts are left out."""
    header = t.encode("<|im_start|>assistant\n").ids
    thought = t.encode("<|im_start|>assistant\n<think>\n").ids
    kept = []
    for e in t.encode_batch_fast(texts):
        ids = e.ids
        if len(ids) > longest:
            continue
        targets = [-100] * len(ids)
        at = 0
        while at < len(ids):
            if ids[at] == header[0] and ids[at : at + len(header)] == header:
                # the opening of a thought is part of the prompt, so that whoever asks decides whether it thinks
                at += len(thought) if ids[at : at + len(thought)] == thought else len(header)
                while at < len(ids):
                    targets[at] = ids[at]
                    at += 1
                    if ids[at - 1] == END:
                        break
            else:
                at += 1
        kept.append((torch.tensor(ids), torch.tensor(targets)))
    return kept


def padded(rows):
    ids = torch.nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True, padding_value=0)
    targets = torch.nn.utils.rnn.pad_sequence([r[1] for r in rows], batch_first=True, padding_value=-100)
    return ids, targets


def batches(rows, budget, generator):
    """Endlessly: all rows in a new order, neighbours in length together, at most `budget` tokens with padding."""
    while True:
        noise = torch.rand(len(rows), generator=generator) * 16
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
    hidden = model(ids[:, :-1])
    wanted = targets[:, 1:]
    mask = wanted != -100
    logits = model.logits(hidden[mask]).float()
    return torch.nn.functional.cross_entropy(logits, wanted[mask], reduction=reduction), int(mask.sum())


def save(network, llama, tokenizer_path, out, notice):
    out.mkdir(parents=True, exist_ok=True)
    model = LlamaForCausalLM(llama)
    missing, unexpected = model.load_state_dict(network.state_dict(), strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size="15MB")
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
    p.add_argument("--until", help="HH:MM of today, in place of --minutes")
    p.add_argument("--steps", type=int, default=100000)
    p.add_argument("--write", action="store_true", help="only write the model of the last checkpoint")
    p.add_argument("--longest", type=int, default=512, help="tokens of a conversation; longer ones are left out")
    p.add_argument("--tokens", type=int, default=8192, help="a batch, padding included")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--bf16", action="store_true", help="matrix products in bf16; the weights stay f32")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--mlp", type=int, default=384)
    p.add_argument("--vocab", type=int, default=3072)
    p.add_argument("--rate", type=float, default=0.02, help="of the matrices (Muon); embeddings and norms have 0.15 times as much (AdamW)")
    p.add_argument("--long", type=float, default=1.0, help="share kept of the conversations in which the assistant says more than 120 tokens (stories)")
    p.add_argument("--note", default="", help="what the model is for, in the notice")
    return p.parse_args()


def config_of(a, vocab_size):
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=a.hidden, intermediate_size=a.mlp, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        num_key_value_heads=max(1, a.heads // 2), head_dim=32, max_position_embeddings=CONTEXT, tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=END, pad_token_id=0, initializer_range=0.04,
    )


def conversations(a):
    """(held out, trained on, tokenizer, its path). The ids are kept beside the text, as making them takes minutes."""
    path, kept = a.work / "tokenizer.json", a.work / "rows.pt"
    if kept.exists() and kept.stat().st_mtime > a.data.stat().st_mtime and path.exists():
        test, flat = torch.load(kept, weights_only=False)
        rows = list(zip(flat["ids"].split(flat["lengths"]), flat["targets"].split(flat["lengths"])))
        return test, rows, Tokenizer.from_file(str(path)), path
    compiled = template()
    texts = [render(compiled, json.loads(line)) for line in open(a.data)]
    if not path.exists():
        train_tokenizer(texts[300:60000], a.vocab, path)
    t = Tokenizer.from_file(str(path))
    test, rows = encode(t, texts[:300], CONTEXT), encode(t, texts[300:], a.longest)
    torch.save((test, {"ids": torch.cat([r[0] for r in rows]), "targets": torch.cat([r[1] for r in rows]), "lengths": [len(r[0]) for r in rows]}), kept)
    return test, rows, t, path


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    a.work.mkdir(parents=True, exist_ok=True)
    test, rows, t, tokenizer_path = conversations(a)
    if a.long < 1:
        kept = torch.rand(len(rows), generator=torch.Generator().manual_seed(a.seed)) < a.long
        rows = [row for row, keep in zip(rows, kept.tolist()) if keep or int((row[1] != -100).sum()) <= 120]
    config = config_of(a, t.get_vocab_size())
    model = Network(config).to(a.device)
    parameters = sum(x.numel() for x in model.parameters())
    print("parameters", parameters, "conversations", len(rows), "tokens", sum(len(r[0]) for r in rows), "spoken", sum(int((r[1] != -100).sum()) for r in rows), flush=True)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=a.rate, betas=(0.9, 0.98), weight_decay=0.0)
    checkpoint, step, spent, seen = a.work / "checkpoint.pt", 0, 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False, map_location=a.device)
        model.load_state_dict(state["model"])
        muon.state = state["muon"]
        adam.load_state_dict(state["adam"])
        step, spent, seen = state["step"], state["spent"], state["seen"]
    elif a.init:
        model.load_state_dict(torch.load(a.init, weights_only=False, map_location=a.device)["model"])
    size = f"{parameters / 1e6:.2f} million parameters"
    notice = f"Pocket is a demonstration model of {size}: it chats a little and makes many mistakes. Name a bigger one with --model PATH."
    if a.write:
        save(model.cpu(), config, tokenizer_path, a.out, a.note or notice)
        return
    started, saved = time.time() - spent, time.time()
    minutes = a.minutes
    if a.until:
        hour, minute = (int(x) for x in a.until.split(":"))
        ends = datetime.now().replace(hour=hour, minute=minute, second=0).timestamp()
        minutes = (ends - started) / 60
    source = batches(rows, a.tokens, torch.Generator().manual_seed(a.seed + step))

    def keep():
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "muon": muon.state, "adam": adam.state_dict(), "step": step, "spent": time.time() - started, "seen": seen}, temporary)
        os.replace(temporary, checkpoint)

    average = None
    while True:
        # the rate follows whichever runs out first, steps or minutes, so that a shared machine still ends annealed
        progress = max(step / a.steps, (time.time() - started) / (60 * minutes))
        if progress >= 1:
            break
        factor = min(1.0, (step + 1) / 60) * min(1.0, (1 - progress) / 0.6)
        muon.rate = a.rate * factor
        for group in adam.param_groups:
            group["lr"] = 0.15 * a.rate * factor
        ids, targets = (x.to(a.device) for x in next(source))
        with torch.autocast(a.device, torch.bfloat16, enabled=a.bf16):
            loss, _ = loss_of(model, ids, targets)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adam.step()
        step += 1
        seen += ids.numel()
        average = loss.item() if average is None else 0.95 * average + 0.05 * loss.item()
        if step % 10 == 0:
            print(f"step {step} loss {average:.3f} minutes {(time.time() - started) / 60:.1f} of {minutes:.0f} tokens {seen / 1e6:.2f} M", flush=True)
        if time.time() - saved > 300:
            keep()
            saved = time.time()
    keep()
    with torch.no_grad():
        parts = [loss_of(model, *(x.to(a.device) for x in padded([r])), reduction="sum") for r in test]
    print("held-out loss per token the assistant says", round(sum(x[0].item() for x in parts) / sum(x[1] for x in parts), 4), flush=True)
    save(model.cpu(), config, tokenizer_path, a.out, a.note or notice)


if __name__ == "__main__":
    main()
