"""Tiny random models of every family of causal language models that is tried, by transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

VOCABULARY, WINDOW, POSITIONS = 64, 8, 64
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    **IDS,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
TWO: dict[str, Any] = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
CHOSEN = {"num_experts_per_tok": 2}
LOCAL, EXPERTS = {"num_local_experts": 4, **CHOSEN}, {"num_experts": 4, **CHOSEN}
ROUTED = {
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    **CHOSEN,
}
NARROW = {"moe_intermediate_size": 16}
SHARED = {"shared_expert_intermediate_size": 16, **NARROW}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
}
HEADS = {"head_dim": 8}
GEMMA_3N = {
    **GROUPED,
    **HEADS,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "laurel_rank": 8,
    "sliding_window": WINDOW,
}
SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
STATE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
FALCON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}
MPT = {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}


def rope(kind: str, original: int = 32, **options: Any) -> dict[str, Any]:
    scaled = {"rope_type": kind, "rope_theta": 10000.0, **options}
    return {"rope_parameters": {**scaled, "original_max_position_embeddings": original}}


def config(name: str, base: dict[str, Any], *more: dict[str, Any], **options: Any) -> Any:
    for part in more:
        options = {**part, **options}
    return getattr(hf, f"{name}Config")(**{**base, **options})


# Name in the documentation -> configuration
RIGHT: dict[str, Callable[[], Any]] = {
    "Llama": lambda: config("Llama", GROUPED),
    "Llama, biases, tied": lambda: config(
        "Llama", GROUPED, attention_bias=True, mlp_bias=True, tie_word_embeddings=True
    ),
    "Llama, rope llama3": lambda: config(
        "Llama", GROUPED, rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    ),
    "Llama, rope yarn": lambda: config("Llama", GROUPED, rope("yarn", factor=2.0)),
    "Llama, rope linear": lambda: config("Llama", GROUPED, rope("linear", factor=2.0)),
    "Llama, rope dynamic": lambda: config("Llama", GROUPED, rope("dynamic", factor=2.0)),
    "Phi 3, rope longrope": lambda: config(
        "Phi3",
        GROUPED,
        rope("longrope", original=POSITIONS, short_factor=[1.0] * 4, long_factor=[4.0] * 4),
        max_position_embeddings=4 * POSITIONS,
        sliding_window=None,
        original_max_position_embeddings=POSITIONS,
    ),
    "Mistral": lambda: config("Mistral", GROUPED, sliding_window=WINDOW),
    "Ministral 3": lambda: config("Ministral3", GROUPED),
    "Mixtral": lambda: config("Mixtral", GROUPED, LOCAL, sliding_window=WINDOW),
    "Gemma": lambda: config("Gemma", GROUPED, HEADS),
    "Gemma 2": lambda: config(
        "Gemma2", GROUPED, HEADS, TWO, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "Gemma 3": lambda: config("Gemma3Text", GROUPED, HEADS, TWO),
    "Gemma 4": lambda: config("Gemma4Text", GEMMA_3N, TWO, num_kv_shared_layers=0),
    "VaultGemma": lambda: config("VaultGemma", GROUPED, HEADS, TWO),
    "Phi": lambda: config("Phi", GROUPED),
    "Phi 3": lambda: config("Phi3", GROUPED, sliding_window=WINDOW),
    "Phi 3.5 MoE": lambda: config("Phimoe", GROUPED, LOCAL),
    "Qwen 2": lambda: config(
        "Qwen2", GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "Qwen 3": lambda: config(
        "Qwen3", GROUPED, HEADS, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "Qwen 2 MoE": lambda: config("Qwen2Moe", GROUPED, EXPERTS, SHARED),
    "Qwen 3 MoE": lambda: config("Qwen3Moe", GROUPED, HEADS, EXPERTS, NARROW),
    "StarCoder 2": lambda: config("Starcoder2", GROUPED, sliding_window=WINDOW),
    "SmolLM 3": lambda: config(
        "SmolLM3", GROUPED, TWO, use_sliding_window=True, no_rope_layers=[1, 0]
    ),
    "OLMo": lambda: config("Olmo", GROUPED),
    "OLMo 2": lambda: config("Olmo2", GROUPED),
    "OLMo 3": lambda: config("Olmo3", GROUPED, TWO),
    "OLMoE": lambda: config("Olmoe", GROUPED, EXPERTS),
    "FlexOlmo": lambda: config("FlexOlmo", GROUPED, EXPERTS),
    "Cohere": lambda: config("Cohere", GROUPED),
    "Cohere 2": lambda: config("Cohere2", GROUPED, TWO),
    "EXAONE 4": lambda: config("Exaone4", GROUPED, TWO, sliding_window_pattern="LG"),
    "GPT-OSS": lambda: config("GptOss", GROUPED, HEADS, TWO, LOCAL),
    "Granite": lambda: config("Granite", GROUPED, attention_multiplier=0.2, logits_scaling=2.0),
    "Granite MoE": lambda: config("GraniteMoe", GROUPED, LOCAL),
    "Granite MoE, shared": lambda: config(
        "GraniteMoeShared", GROUPED, LOCAL, shared_intermediate_size=16
    ),
    "StableLM": lambda: config("StableLm", GROUPED),
    "Nemotron": lambda: config("Nemotron", GROUPED),
    "GLM": lambda: config("Glm", GROUPED, HEADS),
    "GLM 4": lambda: config("Glm4", GROUPED, HEADS),
    "GLM 4 MoE": lambda: config("Glm4Moe", GROUPED, HEADS, ROUTED),
    "Helium": lambda: config("Helium", GROUPED, HEADS),
    "Arcee": lambda: config("Arcee", GROUPED),
    "Seed-OSS": lambda: config("SeedOss", GROUPED, HEADS),
    "Ernie 4.5": lambda: config("Ernie4_5", GROUPED, HEADS),
    "Ernie 4.5 MoE": lambda: config(
        "Ernie4_5_Moe", GROUPED, NARROW, moe_num_experts=4, moe_k=2, moe_layer_start_index=1
    ),
    "Apertus": lambda: config("Apertus", GROUPED),
    "NanoChat": lambda: config("NanoChat", GROUPED),
    "HunYuan": lambda: config("HunYuanDenseV1", GROUPED, HEADS),
    "HunYuan MoE": lambda: config("HunYuanMoEV1", GROUPED, HEADS, num_experts=4, moe_topk=2),
    "DiffLlama": lambda: config("DiffLlama", GROUPED),
    "BitNet": lambda: config("BitNet", GROUPED),
    "Persimmon": lambda: config("Persimmon", PLAIN),
    "DeepSeek V3": lambda: config("DeepseekV3", PLAIN, LATENT, ROUTED),
    "MiniCPM 3": lambda: config("MiniCPM3", PLAIN, LATENT),
    "dots.llm1": lambda: config("Dots1", GROUPED, HEADS, ROUTED),
    "Solar Open": lambda: config("SolarOpen", GROUPED, HEADS, ROUTED),
    "JetMoe": lambda: config("JetMoe", PLAIN, LOCAL, kv_channels=8, num_key_value_heads=2),
    "Doge": lambda: config("Doge", GROUPED),
    "AFMoE": lambda: config("Afmoe", GROUPED, HEADS, TWO, EXPERTS, NARROW, num_dense_layers=1),
    "CWM": lambda: config("Cwm", GROUPED, HEADS, TWO),
    "GPT-2": lambda: config("GPT2", GPT, IDS),
    "GPT-BigCode": lambda: config("GPTBigCode", GPT, IDS),
    "GPT-J": lambda: config("GPTJ", GPT, IDS, rotary_dim=4),
    "GPT-NeoX": lambda: config("GPTNeoX", PLAIN),
    "GPT-NeoX Japanese": lambda: config("GPTNeoXJapanese", PLAIN),
    "CodeGen": lambda: config("CodeGen", GPT, IDS, rotary_dim=4),
    "OPT": lambda: config("OPT", PLAIN, ffn_dim=48, word_embed_proj_dim=32),
    "Falcon 7B": lambda: config("Falcon", FALCON, IDS, multi_query=True),
    "Falcon 40B": lambda: config(
        "Falcon", FALCON, IDS, num_kv_heads=2, new_decoder_architecture=True
    ),
    "Bloom": lambda: config("Bloom", BLOOM, IDS),
    "XGLM": lambda: config(
        "XGLM", PLAIN, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, pad_token_id=0
    ),
    "BERT as decoder": lambda: config("Bert", PLAIN, is_decoder=True),
    "ModernBERT decoder": lambda: config(
        "ModernBertDecoder", PLAIN, TWO, local_attention=WINDOW, cls_token_id=1, sep_token_id=2
    ),
    "Gemma 3n": lambda: config(
        "Gemma3nText",
        GEMMA_3N,
        TWO,
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.5, 0.0],
    ),
    "Gemma 3n, shared keys": lambda: config(
        "Gemma3nText",
        {**GEMMA_3N, "num_hidden_layers": 4, "intermediate_size": [48] * 4},
        sliding_window=WINDOW,
        layer_types=TWO["layer_types"] * 2,
        num_kv_shared_layers=2,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    ),
    "Llama 4": lambda: config(
        "Llama4Text",
        GROUPED,
        HEADS,
        intermediate_size_mlp=48,
        num_local_experts=4,
        num_experts_per_tok=1,
        attention_chunk_size=WINDOW,
        layer_types=["chunked_attention", "full_attention"],
        no_rope_layers=[1, 0],
    ),
    "DeepSeek V2": lambda: config("DeepseekV2", PLAIN, LATENT, ROUTED),
    "GPT-Neo": lambda: config(
        "GPTNeo",
        PLAIN,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=WINDOW,
    ),
    "MPT": lambda: config("Mpt", MPT, IDS),
    "BioGPT": lambda: config("BioGpt", PLAIN),
    "Falcon RW": lambda: config(
        "Falcon", FALCON, IDS, multi_query=False, alibi=True, parallel_attn=False
    ),
    "Mamba": lambda: config("Mamba", STATE),
    "Mamba 2": lambda: config("Mamba2", STATE, num_heads=4, head_dim=16, n_groups=2, chunk_size=8),
    "Falcon Mamba": lambda: config("FalconMamba", STATE),
    "Falcon H1": lambda: config("FalconH1", GROUPED, SSM, mamba_d_ssm=64, mamba_chunk_size=8),
    "Jamba": lambda: config(
        "Jamba", GROUPED, EXPERTS, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8
    ),
    "Bamba": lambda: config("Bamba", GROUPED, SSM, attn_layer_indices=[1]),
    "Zamba 2": lambda: config(
        "Zamba2",
        {**PLAIN, "num_hidden_layers": 3},
        layers_block_type=["mamba", "hybrid", "mamba"],
        mamba_d_state=8,
        n_mamba_heads=4,
        mamba_ngroups=1,
        num_mem_blocks=1,
        use_mamba_kernels=False,
        num_key_value_heads=4,
    ),
    "Zamba": lambda: config(
        "Zamba",
        {**PLAIN, "num_hidden_layers": 4},
        layers_block_type=["mamba", "hybrid"] * 2,
        mamba_d_state=8,
        n_mamba_heads=2,
        num_key_value_heads=4,
        attention_hidden_size=64,
        attention_head_dim=16,
        use_mamba_kernels=False,
    ),
    "Nemotron-H": lambda: config(
        "NemotronH",
        GROUPED,
        HEADS,
        layers_block_type=["mamba", "attention"],
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=8,
        n_groups=1,
    ),
    "Granite hybrid": lambda: config(
        "GraniteMoeHybrid",
        GROUPED,
        LOCAL,
        SSM,
        shared_intermediate_size=16,
        layer_types=["mamba", "attention"],
    ),
    "LFM 2": lambda: config("Lfm2", GROUPED, layer_types=["conv", "full_attention"]),
    "Qwen3-Next": lambda: config("Qwen3Next", GROUPED, HEADS, HYBRID, EXPERTS, SHARED, DELTA),
    "Qwen 3.5": lambda: config("Qwen3_5Text", GROUPED, HEADS, HYBRID, DELTA),
    "OLMo hybrid": lambda: config(
        "OlmoHybrid", GROUPED, HYBRID, {**DELTA, "linear_num_key_heads": 4}
    ),
    "Kimi Linear": lambda: config(
        "KimiLinear",
        PLAIN,
        {**LATENT, "q_lora_rank": None},
        HYBRID,
        NARROW,
        linear_head_dim=8,
        linear_num_heads=4,
        num_experts=4,
        num_experts_per_token=2,
    ),
    "Zaya": lambda: config("Zaya", GROUPED, HEADS),
    "MiniMax": lambda: config("MiniMax", GROUPED, HEADS, HYBRID, LOCAL, block_size=16),
    "RWKV": lambda: config(
        "Rwkv", STATE, attention_hidden_size=32, context_length=POSITIONS, rescale_every=1
    ),
    "RecurrentGemma": lambda: config(
        "RecurrentGemma",
        {**GROUPED, "num_hidden_layers": 3},
        HEADS,
        attention_window_size=WINDOW,
        block_types=["recurrent", "recurrent", "attention"],
    ),
}
# Those that tests compile into artifacts -> what each has that the others have not
COMPILED = {
    "Llama": "heads of 8, groups of heads",
    "Gemma 2": "softcaps, windows in some layers",
    "Mistral": "windows in all layers",
    "DeepSeek V3": "keys wider than values, experts",
    "GPT-OSS": "sinks, experts",
    "Bloom": "a bias by position for each head",
    "GPT-2": "learned positions",
    "Falcon 7B": "one key head, parallel residual",
}
# The same, of families that tests of recurrent states compile
COMPILED_RECURRENT = {
    "Falcon H1": "attention and Mamba 2 in each layer",
    "RWKV": "recurrent states only",
}
# Name in the documentation -> configuration, what the refusal says
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "xLSTM": (
        lambda: config(
            "xLSTM", {"vocab_size": VOCABULARY, "hidden_size": 32}, num_heads=4, num_blocks=2
        ),
        "it asks its cache for 'rnn_state'",
    ),
}


def build(configuration: Any) -> Any:
    """Random weights, those that begin as zeros or ones too, so that every one matters."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(configuration, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
