"""Small random models that write text, with tokenizers of their families, made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import WORDS

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_TRAINING = [
    " ".join(WORDS),
    "Is the following review positive or negative? Review: Sentiment (positive or negative): Answer with one word.",
    "the sentiment of this review is positive, that one negative; Positive Negative very good, very bad",
    "\u8bc4\u8bba\uff1a\u5f88\u597d\u3002\u60c5\u611f\uff08\u6b63\u9762\u6216\u8d1f\u9762\uff09\uff1a",
    "\u8d1f\u9762 \u6b63\u9762 it's \U0001f600 caf\u00e9",
]


def make_t5(directory: Path) -> Path:
    """An encoder and decoder of two layers each, with a Unigram tokenizer that ends a text with </s>."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("\n", " "), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        _TRAINING,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    _save(tokenizer, directory, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=256)
    torch.manual_seed(0)
    make: Any = T5Config
    config = make(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        d_kv=16,
        d_ff=48,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        initializer_factor=1.0,
    )
    T5ForConditionalGeneration(config).save_pretrained(directory)
    return directory


def make_gpt2(directory: Path) -> Path:
    """A decoder of two layers without a padding token, with a byte-level tokenizer that adds nothing to a text."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _byte_level(["<|endoftext|>"])
    _save(tokenizer, directory, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=160,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


def make_llama(directory: Path, *, chat: bool = False, **settings: Any) -> Path:
    """A Llama-like decoder with grouped heads, whose tokenizer begins a text with <s>; for chats if asked."""
    import torch
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaForCausalLM

    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = _byte_level(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    chatting: dict[str, Any] = {"chat_template": CHAT_TEMPLATE} if chat else {}
    _save(tokenizer, directory, bos_token="<s>", eos_token="</s>", extra_special_tokens=special[2:], **chatting)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=200,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        **settings,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def _byte_level(special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _TRAINING,
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def _save(tokenizer: Any, directory: Path, **settings: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    make: Any = PreTrainedTokenizerFast
    make(tokenizer_object=tokenizer, **settings).save_pretrained(directory)
