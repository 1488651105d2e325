r"""How llama.cpp splits a text before byte-level BPE, by the names that GGUF files use.

A name stands for regular expressions that are applied one after another: each divides the pieces
of the one before into its matches and what is between them. Merges do not cross the pieces, so a
wrong name gives other tokens without any error.

The expressions here are for the `tokenizers` package (Oniguruma). They do what llama.cpp does
(`src/llama-vocab.cpp` and `src/unicode.cpp`), also where that is not what the model's original
tokenizer does: to llama.cpp, `\p{Lu}` is any letter, and it knows Unicode 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_UNICODE_16 = (  # blocks and characters that Oniguruma knows and llama.cpp does not
    r"\x{897}\x{1B4E}\x{1B4F}\x{1B7F}\x{1C89}\x{1C8A}\x{2427}-\x{2429}\x{31E4}\x{31E5}"
    r"\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D40}-\x{10D8F}"
    r"\x{10EC2}-\x{10EFC}\x{11380}-\x{113E2}\x{116D0}-\x{116E3}\x{11BC0}-\x{11BF9}\x{11F5A}"
    r"\x{13460}-\x{143FA}\x{16100}-\x{16139}\x{16D40}-\x{16D79}\x{18CFF}\x{1CC00}-\x{1CEB3}"
    r"\x{1E5D0}-\x{1E5FF}\x{1F8B2}-\x{1F8C1}\x{1FA89}-\x{1FA8F}\x{1FABE}\x{1FAC6}"
    r"\x{1FADC}-\x{1FADF}\x{1FAE9}\x{1FBCB}-\x{1FBEF}"
)
# General categories; an intersection can be used alone and inside of brackets.
_L, _M, _N, _P, _S = (rf"[\p{{{name}}}&&[^{_UNICODE_16}]]" for name in "LMNPS")
_UPPER, _LOWER = rf"[{_L}&&[^a-z]]", rf"[{_L}&&[^A-Z]]"  # letters that are not ASCII are both
_HAN = (
    r"[\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2EBEF}"
    r"\x{2F800}-\x{2FA1F}]"
)
_CASED = (  # DeepSeek's list of letters with upper and lower case
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}"
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}"
    r"\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}"
    r"\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}"
    r"\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}"
    r"\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}"
    r"\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}"
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}"
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}"
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}"
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}"
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}"
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}"
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}"
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}"
    r"\x{1E900}-\x{1E943}"
)
_CJK = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+"
_EAST_ASIAN = r"[\x{4E00}-\x{9FA5}[\x{800}-\x{4E00}&&\S]\x{AC00}-\x{D7FF}]+"
_ASCII_PUNCTUATION = r"[!-/:-@\[-`{-~]"

_CONTRACTION = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
_SPACES = r"\s+(?!\S)|\s+"
_BREAKS = rf"\s*[\r\n]+|{_SPACES}"
_GPT2 = rf"'(?:[stmd]|re|ve|ll)| ?{_L}+| ?{_N}+| ?[^\s{_L}{_N}]+|{_SPACES}"
# Groups of three digits from the right; the first group takes the text before it along.
_DIGITS_FROM_THE_RIGHT = rf"[^{_N}]*{_N}{{1,3}}(?=(?:{_N}{{3}})*(?!{_N}))"
_DEEPSEEK_3 = (
    rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n{_L}{_P}{_S}]?[{_L}{_M}]+| ?[{_P}{_S}]+[\r\n]*|{_BREAKS}"
)
_LETTERS_AND_MARKS = rf"[^\r\n{_L}{_N}]?[{_L}{_M}]+(?:{_CONTRACTION})?"


def _words(digits: str, *, letters: str = rf"{_L}+", after: str = rf"[\r\n]*|{_BREAKS}") -> str:
    """The pattern of Llama 3 and its variants.

    Args:
        digits: what matches a number.
        letters: what matches a word, after at most one other character.
        after: what follows punctuation, and the alternatives for spaces.
    """
    word = rf"[^\r\n{_L}{_N}]?{letters}"
    return rf"{_CONTRACTION}|{word}|{digits}| ?[^\s{_L}{_N}]+{after}"


def _cased_words(upper: str, lower: str, digits: str, ending: str = "") -> str:
    """The pattern of GPT-4o and its variants: a word is upper case, then lower case."""
    start = rf"[^\r\n{_L}{_N}]?"
    words = rf"{start}{upper}*{lower}+{ending}|{start}{upper}+{lower}*{ending}"
    return rf"{words}|{digits}| ?[^\s{_L}{_N}]+[\r\n/]*|{_BREAKS}"


_ENDING = rf"(?:{_CONTRACTION})?"
_LLAMA_3 = _words(rf"{_N}{{1,3}}")
_QWEN_2 = _words(_N)
_POWERS = "|".join(rf"\s{{{2**power}}}(?!\S)" for power in range(9, 1, -1))
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
_KIMI_WORD = rf"[^\r\n{_L}{_N}]?[{_L}&&[^{_HAN}]]+{_ENDING}"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a text is split, and whether a piece that is a token is taken before any merge."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The rule for the `tokenizers` package, with the bytes of each piece as characters."""
        from tokenizers import Regex
        from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

        splits = [Split(Regex(pattern), "isolated") for pattern in self.patterns]
        return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


_BY_NAMES = {  # of names with the same rule, the first is written
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano glm4 glm5": (
        Rule((_LLAMA_3,), ignore_merges=True)
    ),
    "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2": (
        Rule((_QWEN_2,))
    ),
    "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
    "jina-v1-en jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4": (
        Rule((_GPT2,))
    ),
    "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2": Rule((_N, _GPT2)),
    "tekken": Rule((_cased_words(_UPPER, _LOWER, _N),), ignore_merges=True),
    "gpt-4o llama4 kanana2 talkie minimax-m2": (
        Rule((_cased_words(_UPPER, _LOWER, rf"{_N}{{1,3}}", _ENDING),))
    ),
    "dbrx smaug-bpe chatglm-bpe": Rule((_LLAMA_3,)),
    "deepseek-v3 hunyuan-dense joyai-llm hy_v4": Rule((rf"{_N}{{1,3}}", _CJK, _DEEPSEEK_3)),
    "deepseek-coder": (Rule((r"[\r\n]", rf"\s?{_L}+", rf"\s?{_P}+", _EAST_ASIAN, _N))),
    "deepseek-llm": Rule(
        (
            r"[\r\n]",
            rf"\s?[{_CASED}]+",
            r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]+",
            r"\s+\z",
            _EAST_ASIAN,
            rf"{_N}+",
        )
    ),
    "qwen35": Rule(
        (
            rf"{_CONTRACTION}|[^\r\n{_L}{_N}]?[{_L}{_M}]+|{_N}| ?[^\s{_L}{_M}{_N}]+[\r\n]*|"
            rf"{_BREAKS}",
        )
    ),
    "falcon": Rule((rf"[{_P}$+<=>^~|`]+", _GPT2, "[0-9]{3}")),
    "default": Rule((rf"[{_P}$+<=>^~|]+", _GPT2, rf"{_N}+", "[0-9]{3}")),
    "bailingmoe bailingmoe2 llada-moe": (
        Rule((_words(_N, after=rf"[\r\n]*|\s*[\r\n]|{_SPACES}"),))
    ),
    "seed-coder": Rule(
        (rf"{_CONTRACTION}|[^\r\n{_L}{_N}]?{_L}+|{_N}| ?[^\s{_L}{_N}\r\n]+|{_BREAKS}",)
    ),
    "exaone-moe": Rule(
        (
            _words(
                _N,
                letters=rf"(?:{_L}{_M}*(?: {_L}{_M}*)*)+",
                after=rf"[\r\n/]?|\s*[\r\n]|{_SPACES}",
            ),
        )
    ),
    "minicpm5": Rule((rf"{_N}{{1,3}}", _words(rf"{_N}+")), ignore_merges=True),
    "jais-2": Rule(
        (_words(rf"{_N}{{1,3}}", after=rf"[\r\n]*|\s*[\r\n]+|{_POWERS}|\s{{1,2}}(?!\S)|\s"),)
    ),
    "granite-embed-multi-97m": Rule(
        (_cased_words(rf"[{_UPPER}{_M}]", rf"[{_LOWER}{_M}]", rf"{_N}{{1,3}}", _ENDING),),
        ignore_merges=True,
    ),
    "tiny_aya cohere2moe": Rule(
        (
            _DIGITS_FROM_THE_RIGHT,
            rf"{_LETTERS_AND_MARKS}|{_N}{{1,3}}| ?[^\s{_L}{_N}]+[\r\n/]*|{_BREAKS}",
        )
    ),
    "youtu": Rule(
        (
            r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}"
            r"\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|"
            rf"[\x{{3105}}-\x{{312F}}]+|{_CJK}",
            rf"{_LETTERS_AND_MARKS}|{_N}| ?[^\s{_L}{_N}]+[\r\n/]*|{_BREAKS}",
        ),
        ignore_merges=True,
    ),
    "spark2_5": Rule(
        (
            rf"{_N}{{1,3}}",
            _CJK,
            rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n{_L}{_P}{_S}]?[{_L}{_M}]+| ?[{_P}{_S}]+|[\r\n]|"
            rf"{_SPACES}",
            _N,
        )
    ),
    "afmoe": Rule(
        (
            _DIGITS_FROM_THE_RIGHT,
            r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{30FF}"
            r"\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{E40}-\x{EFF}\x{1780}-\x{17FF}"
            r"\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}"
            r"\x{1100}-\x{11FF}]+",
            _DEEPSEEK_3,
        )
    ),
    "kimi-k2": Rule((rf"{_HAN}+|{_KIMI_WORD}|{_N}{{1,3}}| ?[^\s{_L}{_N}]+[\r\n]*|{_BREAKS}",)),
    "ufakzeka": Rule((rf"[^\r\n{_L}{_N}]?{_L}+|{_N}| ?[^\s{_L}{_N}]+[\r\n]*|{_BREAKS}",)),
    "laguna": Rule((r"[^\n]+|\n+", _QWEN_2)),
    "superbpe": Rule((rf"{_N}+", "(?=(?:[0-9]{3})+(?![0-9]))")),
    "bloom poro-chat gpt3-finnish": Rule((_BLOOM,)),
    "viking": Rule((_BLOOM, _N)),
    "chameleon": Rule(
        (
            "<sentinel:[0-9]+>",
            "IMGIMG[A-I]{1,4}Z",
            r"[\t\n]|    |  ",
            _N,
            rf"[{_P}!-/:-@\[-`{{-~]",
            _GPT2,
        )
    ),
}
RULES = {name: rule for names, rule in _BY_NAMES.items() for name in names.split()}
"""The rules by name (`tokenizer.ggml.pre`); a file without a name has the rule `default`."""
PROBES = (
    "'tis It's  DON'T we'll HeLLo helloWorld iPhone'S 1 12 1234567, x = 3.14;\n\n\t  a+b != (c) ",
    "  /*\r\n*/ ",
    " $$ ^^ ``| ~~ == #tag @you :-) ...\n... ?!\n -a _b <tag> </s>\n  \n x\n\n\n9 \t\t z   ",
    "a          b                     c                                     d  1 2",
    "東京 3つの「箱」、한국어 привет, שלום! ∑ ½ €5 naïve café 12½ ²³ x²y\u3000z\u00a0q ",
    "cafe\u0301s हिन्दी ÜBER",
)
"""Texts that rules split differently if they are different."""
WITHOUT_BYTES = ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace")
"""Names of rules for merges of characters instead of bytes, which are not in the table."""
FIRST_SPACE = "tokenizer.ggml.lmsi.first_space"
"""Our key of a SentencePiece tokenizer that adds a space before a text, but not after a special
token, nor if there is one. llama.cpp knows only always and never; the file says never, which is
right in chats, and who tokenizes a text adds the space."""
NFC = ("qwen2",)
"""Names of rules before which texts are normalized to NFC, which llama.cpp leaves to the caller."""
