"""Makes beams.json: what Hugging Face transformers' beam search gives for models of this repository and for stories260K.

Run: python test/golden/make_beam_goldens.py [folder of stories260K]     (needs torch, transformers)

Float32, eager attention. Token ids that end a text are chosen so that some hypotheses end early, some late and some never. A case is kept only if noise of
1e-4 on every log probability changes no sequence: a rounding difference between engines cannot either.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
NOISE = 1e-4


class Noise(LogitsProcessor):
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        return scores + NOISE * (2 * torch.rand(scores.shape, generator=self.generator) - 1)


def search(model, prompt, case, noise=None):
    ids = torch.tensor([prompt])
    processors = LogitsProcessorList([] if noise is None else [Noise(noise)])
    with torch.no_grad():
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=case["beams"], num_return_sequences=case["returned"],
            length_penalty=case["lengthPenalty"], early_stopping=case["earlyStopping"], max_new_tokens=case["maxTokens"], min_new_tokens=case["minTokens"],
            eos_token_id=case["ends"] or None, pad_token_id=0, logits_processor=processors, return_dict_in_generate=True, output_scores=True,
        )


def texts(found, prompt, ends):
    """Ids of each sequence behind the prompt, up to its end."""
    out = []
    for row in found.sequences[:, len(prompt):].tolist():
        cut = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        out.append(row[:cut])
    return out


def ends_for(model, prompt, count):
    """Ids that come up in hypotheses, not at once."""
    free = dict(beams=5, returned=5, lengthPenalty=1.0, earlyStopping=False, maxTokens=24, minTokens=0, ends=[])
    rows = texts(search(model, prompt, free), prompt, [])
    seen = {}
    for row in rows:
        for place, token in enumerate(row):
            if place >= 4:
                seen.setdefault(token, place)
    return sorted(seen, key=lambda token: seen[token])[2:2 + count]


def cases_of(ends):
    few = ends[:1]
    yield dict(beams=2, returned=2, lengthPenalty=1.0, earlyStopping=False, maxTokens=20, minTokens=0, ends=[])
    for beams, penalty, early in [(2, 1.0, False), (3, 1.0, True), (4, 1.0, "never"), (5, 0.0, False), (3, 2.0, "never"), (4, 2.0, False), (3, -1.0, "never"), (5, 0.5, True), (5, 1.0, False)]:
        yield dict(beams=beams, returned=min(3, beams), lengthPenalty=penalty, earlyStopping=early, maxTokens=32, minTokens=0, ends=few)
    yield dict(beams=4, returned=4, lengthPenalty=1.0, earlyStopping=False, maxTokens=32, minTokens=0, ends=ends)
    yield dict(beams=3, returned=1, lengthPenalty=1.0, earlyStopping=True, maxTokens=32, minTokens=10, ends=ends)
    yield dict(beams=5, returned=5, lengthPenalty=1.0, earlyStopping=True, maxTokens=6, minTokens=0, ends=ends)
    yield dict(beams=4, returned=4, lengthPenalty=1.0, earlyStopping=False, maxTokens=1, minTokens=0, ends=ends)


def goldens(name, folder, prompts):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = transformers.GenerationConfig()
    kept, dropped = [], 0
    for prompt in prompts:
        ends = ends_for(model, prompt, 3)
        for case in cases_of(ends):
            found = search(model, prompt, case)
            rows = texts(found, prompt, case["ends"])
            if any(texts(search(model, prompt, case, seed), prompt, case["ends"]) != rows for seed in range(2)):
                dropped += 1
                continue
            kept.append(dict(**case, prompt=prompt, expected=[dict(ids=ids, score=score) for ids, score in zip(rows, found.sequences_scores.tolist())]))
    ended = sum(bool(case["ends"]) and any(row["ids"][-1] in case["ends"] for row in case["expected"]) for case in kept)
    print(f"{name}: {len(kept)} cases, {dropped} dropped, {ended} with ends")
    return kept


def main():
    stories = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared/models/stories260K"
    spread = lambda count, vocabulary, shift: [(i * i * 7 + i * 31 + shift) % vocabulary for i in range(count)]
    models = {
        "llama-llama3": goldens("llama-llama3", HERE / "llama-llama3", [spread(20, 300, 5), spread(37, 300, 11)]),
        "qwen2-window": goldens("qwen2-window", HERE / "qwen2-window", [spread(40, 300, 3)]),
        "pocket": goldens("pocket", ROOT / "pocket/model", [spread(12, 3000, 40), [5, 300, 17, 900]]),
        "stories260K": goldens("stories260K", stories, [[1, 403, 407, 261, 378], [1, 338, 266, 285]]),
    }
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]" for name, cases in models.items())
    (HERE / "beams.json").write_text('{"transformers": "%s",\n"models": {\n%s\n}}\n' % (transformers.__version__, text))


main()
