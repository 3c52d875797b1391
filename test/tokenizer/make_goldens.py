"""Random small tokenizers of every kind, random texts, and what the reference libraries make of them.

    python test/tokenizer/make_goldens.py                                   writes the committed goldens beside this file
    python test/tokenizer/make_goldens.py --out /tmp/fuzz --seed 7 --texts 2000 && MILLRACE_TOKENIZER_GOLDENS=/tmp/fuzz npx vitest run test/tokenizer/goldens.test.ts
                                                                            compares with the libraries as they are now, on other vocabularies and texts

Needs `tokenizers` (Rust), `sentencepiece`, `tiktoken` and `transformers`. Vocabularies are trained on the text of test/fixtures/tokenizers, which is our own, and on noise.
"""

import argparse
import base64
import io
import json
import pathlib
import random
import re

import sentencepiece
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
SOURCE = (HERE.parent / "fixtures/tokenizers/make_tokenizers.py").read_text()
TEXT = SOURCE.split('TEXT = """')[1].split('"""')[0]
RANGES = [(0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x45F), (0x590, 0x5FF), (0x620, 0x64F), (0x900, 0x97F), (0xE00, 0xE5B), (0x1100, 0x11FF),
          (0x2000, 0x206F), (0x2100, 0x214F), (0x2460, 0x249F), (0x3000, 0x30FF), (0x4E00, 0x4E60), (0xAC00, 0xAC40), (0xFF00, 0xFF5E), (0x1D400, 0x1D420), (0x1F600, 0x1F640)]
ODD = ["  ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u0085", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u200d", "\ufffd", "\x00", "\x01", "\x7f", "e\u0301", "A\u030a", "ﬁ", "½",
       "①", "㍿", "İ", "Σ", "ΟΔΟΣ", "ß", "ẞ", "ǅ", "👩‍👩‍👧‍👦", "🇫🇷", "वि", "กำ", "각", "ᄀ", "...", "--", "''", "don't", "WE'LL", "l'eau", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "[UNK]",
       "<|end|>", "<tool>", "<0x41>", "▁", "▁▁", "Ġ", "##a", "123", "1234567", "٣٤", "a_b", "x.y(z)", "://", "=>", "\u202e", "\U000e0001", "\ud7a3", "𝒳"]


def texts(rng, count):
    words = re.findall(r"\S+", TEXT)
    result = ["", " ", "a", "The wheel turns.", "  The  mill ", "水车在河边转动。", "été cafe\u0301", "x" * 120, "ab" * 60, " " * 40, "\n" * 9, "1" * 31]
    while len(result) < count:
        parts = []
        for _ in range(rng.randrange(1, 9)):
            kind = rng.random()
            if kind < 0.4:
                parts.append(rng.choice(["", " "]) + rng.choice(words))
            elif kind < 0.65:
                parts.append(rng.choice(ODD))
            elif kind < 0.9:
                low, high = rng.choice(RANGES)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 6))))
            else:
                parts.append(rng.choice(" abcde\n#'\u0301") * rng.randrange(1, 20))
        result.append("".join(parts).replace("\ud800", ""))
    return result


def corpus(rng, noise=40):
    lines = TEXT.split("\n")
    lines += ["".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(12)) for _ in range(noise)]
    rng.shuffle(lines)
    return [line for line in lines if line.strip() and "\0" not in line]


SPECIALS = ["<unk>", "<s>", "</s>", "<|end|>"]


def bpe_model(rng, pre, size=520, byte_level=True, **more):
    tokenizer = Tokenizer(models.BPE(**more))
    tokenizer.pre_tokenizer = pre
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    tokenizer.train_from_iterator(corpus(rng), trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=[] if byte_level else ["<unk>"], show_progress=False))
    tokenizer.pre_tokenizer = None
    return tokenizer.model


def hf_cases(rng):
    """Name -> (tokenizer, tokenizer_config)."""
    cases = {}
    split = lambda pattern, behavior="isolated", invert=False: pre_tokenizers.Split(Regex(pattern), behavior, invert)
    level = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def add(name, model, normalizer, pre, decoder, post=None, specials=SPECIALS, config=None, plain=("<tool>",)):
        tokenizer = Tokenizer(model)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        if pre is not None:
            tokenizer.pre_tokenizer = pre
        if decoder is not None:
            tokenizer.decoder = decoder
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
        tokenizer.add_tokens([AddedToken(t, special=False, normalized=True) for t in plain])
        if post is not None:
            tokenizer.post_processor = post(tokenizer)
        cases[name] = (tokenizer, config or {})

    def word_piece(lower):
        normalizer = normalizers.BertNormalizer(lowercase=lower, handle_chinese_chars=lower, strip_accents=None, clean_text=True)
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
        tokenizer.train_from_iterator(corpus(rng), trainer)
        post = lambda t: processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[(s, t.token_to_id(s)) for s in ("[CLS]", "[SEP]")])
        return tokenizer.model, normalizer, post

    for lower in (True, False):
        model, normalizer, post = word_piece(lower)
        model.max_input_chars_per_word = 30
        name = "bert" if lower else "bert-cased"
        add(name, model, normalizer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), post, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], None, [])

    spm = sentencepiece_model(rng, "unigram", rules=True)
    map_bytes = charsmap_of(spm)
    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.Precompiled(map_bytes), normalizers.Replace(Regex(" {2,}"), " ")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    unigram.train_from_iterator(corpus(rng, 5), trainer)
    t5_post = lambda t: processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", t.token_to_id("</s>"))])
    add("unigram", unigram.model, unigram.normalizer, unigram.pre_tokenizer, decoders.Metaspace(prepend_scheme="always"), t5_post, ["<pad>", "</s>", "<unk>"],
        {"eos_token": "</s>"}, ["<tool>"])

    pieces = [["<unk>", 0.0]] + [[f"<0x{b:02X}>", -12.0] for b in range(256)]
    seen = {p for p, _ in pieces}
    for _ in range(900):
        start = rng.randrange(len(TEXT) - 8)
        piece = TEXT[start : start + rng.randrange(1, 7)].replace(" ", "▁")
        if piece not in seen:
            seen.add(piece)
            pieces.append([piece, -rng.uniform(1, 9)])
    fallback = models.Unigram([tuple(p) for p in pieces], unk_id=0, byte_fallback=True)
    add("unigram-bytes", fallback, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None,
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]), None, ["<unk>"], None, ["<tool>"])

    words = sorted(set(re.findall(r"\w+|[^\w\s]+", TEXT.lower())))
    vocab = {word: i for i, word in enumerate(["<unk>", *words])}
    add("word-level", models.WordLevel(vocab, unk_token="<unk>"), normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        pre_tokenizers.Whitespace(), None, None, ["<unk>", "<s>", "</s>"], None, [])

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=True)
    roberta = lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    add("roberta", bpe_model(rng, gpt2), None, gpt2, decoders.ByteLevel(), roberta)
    nested = lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])])
    contractions = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    kimi = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+" + contractions +
            r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" + contractions +
            r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    bailing = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    patterns = {
        "kimi": [split(kimi)],
        "bailing": [split(bailing)],
        "triples": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")],
        "cuts": [split(r"(?=(\d{3})+(?!\d))"), split(r"\s+$"), split(r"[\r\n]", "removed"), split(r"\w+", "removed", True)],
        "merged": [split("-", "merged_with_previous"), split(r"\p{Lu}", "merged_with_next"), split(r"[[:punct:]]", "contiguous")],
    }
    for name, parts in patterns.items():
        pre = pre_tokenizers.Sequence([*parts, level()])
        add(f"bpe-{name}", bpe_model(rng, pre), None, pre, decoders.ByteLevel(), nested)
    parts = {
        "digits": [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.WhitespaceSplit()],
        "delimiter": [pre_tokenizers.CharDelimiterSplit("e"), pre_tokenizers.FixedLength(5), pre_tokenizers.Digits(individual_digits=True)],
    }
    cleaning = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(r"[aeiou]{2}"), "oo")])
    for name, stages in parts.items():
        pre = pre_tokenizers.Sequence([*stages, level()])
        add(f"bpe-{name}", bpe_model(rng, pre), cleaning, pre, decoders.ByteLevel(), None)
    first = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    add("metaspace-first", bpe_model(rng, first, byte_level=False, unk_token="<unk>", fuse_unk=True), normalizers.NFC(), first, decoders.Metaspace(prepend_scheme="first"))
    bytes_first = normalizers.ByteLevel()
    add("byte-normalizer", bpe_model(rng, pre_tokenizers.ByteLevel(add_prefix_space=False)), bytes_first, None, decoders.ByteLevel(), None, SPECIALS, None, [])
    return cases


def sentencepiece_model(rng, kind, rules=False, **more):
    out = io.BytesIO()
    options = {"hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1}
    if rules:
        path = pathlib.Path("/tmp/millrace-rules.tsv")
        lines = ["%04X\t%04X" % (c, c + 0x20) for c in range(0x41, 0x5B)]
        lines += ["FB01\t66 69", "2460\t31", "3000\t20", "A0\t20", "9\t20", "A\t20", "D\t20", "85\t20", "200B\t20", "65 301\tE9", "41 30A\tC5", "337F\t682A 5F0F", "1\t", "7F\t", "FF01\t21",
                  "FF21\t61", "61 2060 62\t63 64", "1112 1161 11AB\tD55C"]
        path.write_text("\n".join(lines) + "\n")
        options["normalization_rule_tsv"] = str(path)
    else:
        options["normalization_rule_name"] = "identity"
    options.update(more)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus(rng, 5)), model_writer=out, model_type=kind, vocab_size=700, character_coverage=0.98, **options)
    return out.getvalue()


def charsmap_of(model):
    from sentencepiece import sentencepiece_model_pb2 as pb  # the package's own description of the file

    proto = pb.ModelProto()
    proto.ParseFromString(model)
    return proto.normalizer_spec.precompiled_charsmap


def sentencepiece_cases(rng):
    loose = {"remove_extra_whitespaces": False}
    return {
        "spm-bpe": sentencepiece_model(rng, "bpe", byte_fallback=True, **loose),
        "spm-bpe-rules": sentencepiece_model(rng, "bpe", rules=True, user_defined_symbols=["<tool>", "▁▁", "Müller"], byte_fallback=True, **loose),
        "spm-unigram": sentencepiece_model(rng, "unigram", rules=True, bos_id=-1, pad_id=0, eos_id=1, unk_id=2),
        "spm-unigram-user": sentencepiece_model(rng, "unigram", rules=True, user_defined_symbols=["<tool>", "don't", "▁▁"], add_dummy_prefix=False),
        "spm-unigram-bytes": sentencepiece_model(rng, "unigram", byte_fallback=True, **loose),
        "spm-unigram-suffix": sentencepiece_model(rng, "unigram", treat_whitespace_as_suffix=True, user_defined_symbols=["<tool>"]),
    }


def tiktoken_cases(rng):
    """Name -> (encoding, ranks, tokenizer_config, file name, ids in front)."""
    contractions = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    tail = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    llama3 = contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + tail
    qwen = contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + tail
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
    kimi = rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{contractions}?|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{contractions}?|\p{{N}}{{1,3}}|" + tail
    alphabet = {c: b for b, c in enumerate_alphabet()}
    cases = {}
    for name, pattern, klass, file in [("llama3", llama3, "PreTrainedTokenizerFast", "tokenizer.model"), ("qwen", qwen, "QWenTokenizer", "qwen.tiktoken"),
                                       ("glm4", llama3, "ChatGLM4Tokenizer", "tokenizer.model"), ("kimi", kimi, "TikTokenTokenizer", "tiktoken.model")]:
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trained.train_from_iterator(corpus(rng), trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        order = sorted(trained.get_vocab().items(), key=lambda item: item[1])
        ranks = {bytes(alphabet[c] for c in token): rank for token, rank in order}
        specials = {token: len(ranks) + i for i, token in enumerate(["<|end|>", "<s>", "</s>"])}
        added = {str(i): {"content": token, "special": True} for token, i in specials.items()}
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        cases[f"tiktoken-{name}"] = (encoding, ranks, {"tokenizer_class": klass, "added_tokens_decoder": added, "eos_token": "<|end|>"}, file)
    return cases


def plain_cases(rng):
    """Name -> (files of a repository without tokenizer.json, class of transformers that reads them)."""
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def merges_and_vocab(specials, last=()):
        state = json.loads(Tokenizer(bpe_model(rng, alphabet)).to_str())["model"]
        names = [*specials, *state["vocab"], *last]
        merges = "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in state["merges"])
        return {"vocab.json": {name: i for i, name in enumerate(names)}, "merges.txt": merges.encode()}, len(names)

    gpt2, size = merges_and_vocab([], ["<|endoftext|>"])
    gpt2 |= {"added_tokens.json": {"<|end|>": size, "<tool>": size + 1}, "special_tokens_map.json": {"eos_token": "<|end|>"}}
    roberta, _ = merges_and_vocab(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
    cases = {"plain-gpt2": (gpt2, "GPT2Tokenizer"), "plain-roberta": (roberta | {"tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"}}, "RobertaTokenizer")}
    for lower in (True, False):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(lowercase=lower), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
        tokenizer.train_from_iterator(corpus(rng), trainer)
        vocab = tokenizer.get_vocab()
        files = {"vocab.txt": "".join(word + "\n" for word in sorted(vocab, key=vocab.get)).encode()}
        cases["plain-bert" if lower else "plain-bert-cased"] = (files if lower else files | {"tokenizer_config.json": {"do_lower_case": False}}, "BertTokenizer")
    return cases


def fairseq_rows(library, inputs):
    """XLM-RoBERTa's numbering: one behind the model's, with the unknown piece at 3."""
    shift = lambda ids: [3 if i == 0 else i + 1 for i in ids]
    return [[shift(library.encode(text)), [0, *shift(library.encode(text)), 2], library.decode(library.encode(text))] for text in inputs]


def enumerate_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [(b, chr(b)) for b in printable] + [(b, chr(256 + i)) for i, b in enumerate(others)]


def write(folder, files, rows):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "vectors.json").write_text("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "goldens")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--texts", type=int, default=70)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    inputs = texts(rng, args.texts)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "texts.json").write_text("[\n" + ",\n".join(json.dumps(text) for text in inputs) + "\n]\n")
    for name, (tokenizer, config) in hf_cases(rng).items():
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        rows = []
        for text in inputs:
            special = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            rows.append([plain, special, tokenizer.decode(plain, skip_special_tokens=True)])
        write(args.out / name, {"tokenizer.json": json.loads(tokenizer.to_str()), "tokenizer_config.json": config}, rows)
    for name, model in sentencepiece_cases(rng).items():
        library = sentencepiece.SentencePieceProcessor(model_proto=model)
        add_bos, add_eos = "bpe" in name, "unigram" in name
        rows = [[library.encode(text), library.encode(text, add_bos=add_bos, add_eos=add_eos), library.decode(library.encode(text))] for text in inputs]
        write(args.out / name, {"tokenizer.model": model, "tokenizer_config.json": {}}, rows)
    for name, (encoding, ranks, config, file) in tiktoken_cases(rng).items():
        lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
        rows = []
        for text in inputs:
            if name == "tiktoken-qwen":
                import unicodedata

                normal = unicodedata.normalize("NFC", text)
            else:
                normal = text
            plain = encoding.encode_ordinary(normal)
            rows.append([plain, encoding.encode(normal, allowed_special="all"), encoding.decode(plain)])
        write(args.out / name, {file: lines, "tokenizer_config.json": config}, rows)
    import transformers

    for name, (files, class_name) in plain_cases(rng).items():
        write(args.out / name, files, [])
        tokenizer = getattr(transformers, class_name).from_pretrained(args.out / name)
        library, rows = tokenizer.backend_tokenizer, []
        for text in inputs:
            special = library.encode(text).ids
            library.encode_special_tokens = True
            plain = library.encode(text, add_special_tokens=False).ids
            library.encode_special_tokens = False
            rows.append([plain, special, library.decode(plain, skip_special_tokens=True)])
        write(args.out / name, files, rows)
    model = sentencepiece_model(rng, "unigram", rules=True)
    write(args.out / "spm-xlmr", {"sentencepiece.bpe.model": model}, fairseq_rows(sentencepiece.SentencePieceProcessor(model_proto=model), inputs))


if __name__ == "__main__":
    main()
