"""Real but tiny random models, tokenizers and adapters, made in memory or on disk in milliseconds."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from ct_pipeline.models.loading import BaseModel, wrap_model

VOCABULARY = 64
WINDOW = 64
END = 3
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}{% if m.role == 'assistant' %} </s>{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def word_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Whole words w0, w1, ... after six special tokens; </s> is token 3."""
    specials = ["<pad>", "<unk>", "<bos>", "</s>", *ROLES]
    words = [*specials, "probe", *(f"w{i}" for i in range(VOCABULARY - len(specials) - 1))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        additional_special_tokens=list(ROLES),
        chat_template=template,
    )


def byte_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """One token per byte, in the manner of byte-level families: bos, eos, turn markers are added tokens."""
    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials[:2]])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in specials[2:]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", chat_template=template
    )


def tiny_model(seed: int = 0, hidden: int = 32, **overrides: object) -> LlamaForCausalLM:
    """A random Llama of two layers whose next-token distributions are far from uniform."""
    torch.set_num_threads(1)
    config = LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": WINDOW,
            "tie_word_embeddings": True,
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": END,
            "pad_token_id": 0,
        }
        | overrides
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=0)
    return model


def tiny_base(seed: int = 0, **overrides: object) -> BaseModel:
    """A tiny model as a loaded base, without a disk."""
    return wrap_model(tiny_model(seed, **overrides), word_tokenizer(), "tiny-random")


def tiny_folder(folder: Path, seed: int = 0) -> Path:
    """The same in the Hugging Face layout."""
    tiny_model(seed).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def random_adapter(
    base: BaseModel, folder: Path, seed: int, rank: int = 4, size: float = 0.2, **config: object
) -> Path:
    """Writes a LoRA on all inner linear layers whose factors are both random, so that it changes the model."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors, targets = {}, set()
    for name, module in base.model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not base.model.get_output_embeddings():
            prefix = f"base_model.model.{name}"
            a = torch.randn(rank, module.in_features, generator=generator)
            b = torch.randn(module.out_features, rank, generator=generator)
            tensors |= {f"{prefix}.lora_A.weight": size * a, f"{prefix}.lora_B.weight": size * b}
            targets.add(name.rpartition(".")[2])
    save_file(tensors, folder / WEIGHTS_FILE)
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, **config}
    (folder / CONFIG_FILE).write_text(json.dumps(settings | {"target_modules": sorted(targets)}))
    return folder
