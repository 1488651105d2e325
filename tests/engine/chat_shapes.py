"""Chat templates of the shapes that models come with, in as few lines as show the shape."""

from __future__ import annotations

SPECIAL = (
    *("<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<bos>", "<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>"),
    *("<\N{FULLWIDTH VERTICAL LINE}User\N{FULLWIDTH VERTICAL LINE}>",),
    *("<\N{FULLWIDTH VERTICAL LINE}Assistant\N{FULLWIDTH VERTICAL LINE}>",),
)
"""Special tokens of all shapes."""

_ALTERNATE = (
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant') }}"
    "{% endif %}{% endfor %}"
)

LLAMA_3 = (
    "{{ bos_token }}{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}"
    "{% else %}{% set day = '26 Jul 2024' %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ day }}\n\n{{ system }}<|eot_id|>"
    "{% for m in turns %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL_1 = (
    "{{ bos_token }}{% set turns = messages %}" + _ALTERNATE + "{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)
MISTRAL_3 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}" + _ALTERNATE + "{% for m in turns %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m['content'] }}[/INST]{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% set turns = messages %}"
    + _ALTERNATE
    + "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] "
    "if messages[0]['content'] is string else messages[0]['content'][0]['text'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}"
    "{% endif %}" + _ALTERNATE + "{% for m in turns %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first + '\n\n' if first and loop.first }}"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] | trim }}"
    "{% endif %}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN_2_5 = (
    "{%- if tools %}{{- raise_exception('no tools') }}{%- endif %}"
    "{%- if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n"
    "{%- endif %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content }}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN_3 = (
    "{%- set ns = namespace(last=messages|length - 1) %}"
    "{%- for m in messages[::-1] %}{%- set i = messages|length - 1 - loop.index0 %}"
    "{%- if m.role == 'user' and m.content is string %}{%- set ns.last = i %}{%- break %}"
    "{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
PHI_3 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '<|user|>\n' + m['content'] + '<|im_end|>\n<|assistant|>\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
PHI_4 = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant<|im_sep|>' }}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
SMOLLM_2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM_3 = (
    "{# modes #}{%- set mode = '/think' if enable_thinking | default(true) else '/no_think' -%}"
    "{%- if messages[0].role == 'system' -%}{%- set own = messages[0].content.rstrip() -%}"
    "{%- set start = 1 -%}{%- else -%}{%- set own = '' -%}{%- set start = 0 -%}{%- endif -%}"
    "{{- '<|im_start|>system\n## Metadata\n\nToday Date: ' + strftime_now('%d %B %Y') -}}"
    "{{- '\nReasoning Mode: ' + mode + '\n\n## Custom Instructions\n\n' + own -}}"
    "{{- '<|im_end|>\n' -}}"
    "{%- for m in messages[start:] -%}{%- if m.role == 'user' -%}"
    "{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' -}}"
    "{%- else -%}{% generation %}{{- '<|im_start|>assistant\n' + m.content.lstrip('\n') -}}"
    "{{- '<|im_end|>\n' -}}{% endgeneration %}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
R1 = (
    "{% set ns = namespace(system='') %}{%- for m in messages %}{%- if m['role'] == 'system' %}"
    "{%- set ns.system = m['content'] %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system }}"
    "{%- for m in messages %}{%- if m['role'] == 'user' %}"
    "{{- '<\uff5cUser\uff5c>' + m['content'] }}{%- elif m['role'] == 'assistant' %}"
    "{%- set content = m['content'] %}{%- if '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1] %}{%- endif %}"
    "{{- '<\uff5cAssistant\uff5c>' + content + eos_token }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<\uff5cAssistant\uff5c><think>\n' }}{%- endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MIXED_PARTS = (
    "{% if messages[0]['role'] == 'system' %}{{ '<|system|>\n' + messages[0]['content'] + '\n' }}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}<|{{ m['role'] }}|>\n"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}"
    "{% endfor %}</s>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

SHAPES = {
    "Llama 3": LLAMA_3,
    "Mistral 1": MISTRAL_1,
    "Mistral 3": MISTRAL_3,
    "Gemma 2": GEMMA_2,
    "Gemma 3": GEMMA_3,
    "Qwen 2.5": QWEN_2_5,
    "Qwen 3": QWEN_3,
    "Phi 3": PHI_3,
    "Phi 4": PHI_4,
    "SmolLM 2": SMOLLM_2,
    "SmolLM 3": SMOLLM_3,
    "R1": R1,
    "ChatML": CHATML,
    "parts": PARTS,
    "mixed parts": MIXED_PARTS,
}
FOLDED = ("Mistral 1", "Gemma 2", "Phi 3")
"""Shapes without a system turn: they raise an exception or leave it out."""
