"""Trains two small SentencePiece models and writes the ids that SentencePiece and Hugging Face give.

usage: pieces.py        needs: sentencepiece, protobuf, tokenizers, transformers

Writes pieces/bpe.model, pieces/unigram.model and pieces.json beside it. The text to train on is made
here from a list of words. `ids` are SentencePiece's own; Hugging Face's are written as `hugging_face`
where they differ, and tests/text/pieces.rs says why each of them does.

The BPE model is of Llama's kind (no map of characters, byte fallback, spaces kept, a space in front),
the Unigram model of T5's (a map of characters, spaces collapsed, no byte fallback).
"""
import io
import json
import random
import shutil
import tempfile
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import generate_merges

HERE = Path(__file__).parent
(HERE / "pieces").mkdir(exist_ok=True)
random.seed(7)
WORDS = """the a of to and in is it was for on that apples pears books pencils children school class teacher each every
how many much more less than left right gave took bought sold has had have does do were are sum difference product
小明 有 个 苹果 一共 多少 老师 同学 买 了 又 还 剩 几 answer question number numbers metre metres kilogram square
running runner ran walked walking talked talking un happy unhappy happily re do redo undone preview view reviewing
naïve café über straße élève señor x y z 12 3 45 678 9 10 100 + - × ÷ = ? ! . , : ; ( ) [ ] { } < > / \\ _ * & % $ # @""".split()
TEXT = [" ".join(random.choices(WORDS, k=random.randint(4, 14))) for _ in range(4000)]
TEXT += ["  indented\n    code()  {  }", "a" * 3 + "b" * 4] * 30
COMMON = dict(user_defined_symbols=["<tool>", "[NUM]"], control_symbols=["<turn>"], pad_id=3, num_threads=1,
              minloglevel=2, input_sentence_size=0, shuffle_input_sentence=False)


def train(name, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_writer=model, **COMMON, **options)
    (HERE / f"pieces/{name}.model").write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
    # Code points of what is written on the left and on the right: full-width digits, a ligature, spaces, a control.
    pairs = [(chr(0xFF10 + n), str(n)) for n in range(10)] + [("ﬁ", "fi"), ("\u00a0", " "), ("\t", " "), ("\n", " "), ("\u3000", " "),
             ("e\u0301", "é"), ("½", "1/2"), ("\u200b", ""), ("①", "1")]
    for left, right in pairs:
        print(" ".join(f"{ord(c):X}" for c in left), " ".join(f"{ord(c):X}" for c in right), sep="\t", file=rules)
    rules.flush()
    unigram = train("unigram", model_type="unigram", vocab_size=220, normalization_rule_tsv=rules.name, character_coverage=0.995)
bpe = train("bpe", model_type="bpe", vocab_size=640, byte_fallback=True, normalization_rule_name="identity", split_digits=True,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True)

TEXTS = ["", "a", "the children walked", "小明有3个苹果, 又买了12个", "How many apples are left?", "x  y   z", "  leading", "trailing  ", "   ",
         "naïve café über straße", "e\u0301lève ﬁne １２３ ½ a\u00a0b\tc\nd", "🙂 Ж ∑", "reviewing unhappily undone", "a\u200bb ①",
         "▁literal", "<s> and </s> and <unk> in a text", "<0x41> is not a byte", "aaaaabbbbbb", "100+45=145?", "ＡＢ　Ｃ", "한국어 العربية",
         "    code()  {  }\n\n  end"]
MARKED = ["<turn>the<turn> apples</s>", "12<tool>34 [NUM]5", "<s>小明<tool> 有"]


def piecewise(name, each_part=False):
    """What Hugging Face's Llama and T5 converters put together, stage by stage, with the library's own parts."""
    model = proto.ModelProto.FromString((HERE / f"pieces/{name}.model").read_bytes())
    scored = [(piece.piece, piece.score) for piece in model.pieces]
    if name == "unigram":
        t = Tokenizer(models.Unigram(scored, unk_id=model.trainer_spec.unk_id, byte_fallback=False))
        t.normalizer = normalizers.Sequence([normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
                                             normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")])
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    else:
        vocabulary = {piece: id for id, (piece, _) in enumerate(scored)}
        t = Tokenizer(models.BPE(vocabulary, generate_merges(vocabulary, scored), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if each_part:  # Llama's older way, and llama.cpp's
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    t.add_tokens([AddedToken(p.piece, normalized=False, special=p.type == 3) for p in model.pieces if p.type in (3, 4)]
                 + [AddedToken("<unk>", normalized=False, special=True)])
    return t


golden = {}
for name, own in [("bpe", bpe), ("unigram", unigram)]:
    t, plain = piecewise(name), piecewise(name)
    plain.encode_special_tokens = True
    cases = []
    for text in TEXTS:
        case = {"text": text, "ids": own.encode(text), "decoded": own.decode(own.encode(text))}
        theirs = plain.encode(text, add_special_tokens=False).ids
        cases.append(case if theirs == case["ids"] else {**case, "hugging_face": theirs})
    golden[name] = {"plain": cases, "marked": [{"text": text, "ids": t.encode(text, add_special_tokens=False).ids} for text in MARKED],
                    "size": own.get_piece_size(), "roles": [own.bos_id(), own.eos_id(), own.pad_id(), own.unk_id()]}

model = proto.ModelProto.FromString((HERE / "pieces/bpe.model").read_bytes())
older = piecewise("bpe", each_part=True)
golden["gguf"] = {"tokens": [p.piece for p in model.pieces], "scores": [p.score for p in model.pieces], "types": [p.type for p in model.pieces],
                  "marked": [{"text": text, "ids": older.encode(text, add_special_tokens=False).ids} for text in MARKED]}

# A folder as people have it, opened by transformers.
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(HERE / "pieces/bpe.model", Path(folder) / "tokenizer.model")
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, **roles}
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
    (Path(folder) / "config.json").write_text(json.dumps({"model_type": "llama"}))
    llama = AutoTokenizer.from_pretrained(folder)
    golden["llama"] = {"config": config, "cases": [{"text": text, "ids": llama(text)["input_ids"]} for text in TEXTS[:9] + MARKED]}

(HERE / "pieces.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n")
for name in ("bpe", "unigram"):
    for case in golden[name]["plain"]:
        if "hugging_face" in case:
            print(name, repr(case["text"]), case["ids"], case["hugging_face"])
