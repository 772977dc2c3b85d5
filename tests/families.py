"""Tokenizers of the families that encoders have, small, made here."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.stages.encoder.probes import ODD_TEXTS

# What SentencePiece compiles from these rules, in its own binary form: U+FB01 to "fi", "e" U+0301 to U+00E9, U+2026 to
# "...", U+FF21 to "A", U+3000 and U+200B to a space, U+FEFF to nothing.
CHARSMAP: Any = zlib.decompress(
    base64.b85decode(
        b"c-kG)Wvmud7y#hI2aK`ti)M7gfQw2=Dcvm~lG2?b9rqF&43tJmMNmX8A&qn+-5pAIcRwFzdv@M;=g-+2AyEine1g!nRKl<?L_%D~5R!!u8=EB("
        b"#v~3QfjD6_PZkNWMM8+r5D7`;ao#rJ#3o^mIE5rRsYpp0Qj?Cfq-TA6B&=Hz2^qwh$wXGNkezJgBnP?4MPBldk3W70p@2I-1&QHPKA{kw;hUi_"
        b"#VAT~KBpulC`~E8<O|ADhVqo7A{D4iC8|<|>Qtj9HK<K3>QaZVs7C|p^ED0mhDJ1@G0kX73!2lCZ)r^{+R}#hw4);(=u9WN(uMAHqbEK1j$V9E"
        b"Z~D@Q{`6xY0~pL8hBAb>XcHOEFh(+hO9tVx!i^S>Vhs0}hM)yuEaUi*3DFT^5)+xiWPV~Q)A*SgOlKA|`Gwic;aBGJ8^1G;`O$u}fInHtUo0Y?"
        b"B`oG|d@C$x87o=AYF4q9HLT+wHbm!;O>ATfo7u)zcCejY?Bri|vzI;WXCDVSz+nz?lp`GH7$-TwX-;vLGo0rf7rDUy{Kw^J&AG}Iu5*o>+~791"
        b"xXYbrFSy4;9`Kk)Jmm?`dB#g#@S0b=<qhw77d|duOiYY5XxA}pTM#|~`(l#7"
    )
)


def bert(directory: Path) -> Path:
    """BERT's WordPiece in lower case without accents: the embedded model's."""
    return _saved_with(directory)


def bert_cased(directory: Path) -> Path:
    """The same, letters as they are."""
    return _saved_with(directory, lowercase=False)


def bert_without_ideographs(directory: Path) -> Path:
    """The same, Chinese not treated specially."""
    return _saved_with(directory, handle_chinese_chars=False)


def _saved_with(directory: Path, **normalizer: bool) -> Path:
    from transformers import PreTrainedTokenizerFast

    content: dict[str, Any] = json.loads((EMBEDDED_DIRECTORY / "tokenizer.json").read_bytes())
    content["normalizer"] |= normalizer
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "changed.json").write_text(json.dumps(content))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    make: Any = PreTrainedTokenizerFast
    make(tokenizer_file=str(directory / "changed.json"), **names).save_pretrained(directory)
    return directory


def roberta(directory: Path) -> Path:
    """A byte-level BPE tokenizer with RoBERTa's template."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    texts = [*ODD_TEXTS, "A plain review. It broke, then worked; it's good, they'll say."]
    trained.train_from_iterator(texts, vocab_size=600, special_tokens=special, show_progress=False)
    directory.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(directory))
    tokenizer = RobertaTokenizer(
        vocab=str(directory / "vocab.json"), merges=str(directory / "merges.txt"), model_max_length=64
    )
    tokenizer.save_pretrained(directory)
    return directory


def xlm_roberta(directory: Path) -> Path:
    """A Unigram tokenizer with SentencePiece's normalization, as XLM-R has it."""
    from transformers import XLMRobertaTokenizer

    vocabulary = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, score) for piece, score in _unigram_pieces() if piece != "<unk>"]
    vocabulary.append(("<mask>", 0.0))
    XLMRobertaTokenizer(vocab=vocabulary, _spm_precompiled_charsmap=CHARSMAP).save_pretrained(directory)
    return directory


def albert(directory: Path) -> Path:
    """A Unigram tokenizer with ALBERT's row of normalizers."""
    from transformers import AlbertTokenizer

    vocabulary = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
    vocabulary += [(piece, score) for piece, score in _unigram_pieces() if piece != "<unk>"]
    AlbertTokenizer(vocab=vocabulary, _spm_precompiled_charsmap=CHARSMAP).save_pretrained(directory)
    return directory


def _unigram_pieces() -> list[tuple[str, float]]:
    """Pieces of a Unigram model, with their log probabilities."""
    from tokenizers import SentencePieceUnigramTokenizer

    trained = SentencePieceUnigramTokenizer()
    trained.train_from_iterator(
        [text.lower() for text in ODD_TEXTS] * 3, vocab_size=300, unk_token="<unk>", show_progress=False
    )
    pieces: list[tuple[str, float]] = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    return pieces


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "bert": bert,
    "bert_cased": bert_cased,
    "bert_without_ideographs": bert_without_ideographs,
    "roberta": roberta,
    "xlm_roberta": xlm_roberta,
    "albert": albert,
}
