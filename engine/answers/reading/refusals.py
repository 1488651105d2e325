"""Texts that decline to answer, which are no answer of any type but inference."""

from __future__ import annotations

import re

_SOURCE = (
    r"(?:passage|text|article|paragraph|context|document|story|problem|question|statement|author"
    r"|given information|information(?: given| provided)?|data|record)"
)
_REFUSES = re.compile(
    rf"""\W*(?:as\san?\s(?:ai|language|text|assistant)\b[^,.\n]{{0,40}},\s)?(?:(?:(?:i'm|i\sam|we\sare|we're)\s)?(?:so\s|very\s)?
         (?:sorry|afraid|unfortunately|apologies|honestly|well|hmm|but|however|that)\b\W*)*
    (?:(?:i|we)\s(?:really\s|honestly\s|just\s|simply\s|still\s)?
         (?:(?:do\snot|don't|did\snot|didn't)\s(?:really\s|actually\s)?
             (?:know|have|understand|see|think\s(?:i|we)\scan)\b
           |(?:can\s?not|can't|could\s?not|couldn't|am\s(?:un|not\s)able\sto|are\s(?:un|not\s)able\sto)\s
             (?:really\s)?(?:answer|say|tell|determine|find|solve|know|help|provide|give|assist|see
               |be\s(?:sure|certain)|make|do|decide|identify|figure|conclude|read|access|view)\b
           |have\sno\s(?:idea|clue|answer|information|way))
      |(?:i'm|i\sam|we\sare|we're)\s(?:really\s|quite\s)?
         (?:not\s(?:sure|certain|able)|unsure|uncertain|unable)\b
      |(?:the|this|your)\s{_SOURCE}\s(?:does\snot|doesn't|did\snot|didn't|do\snot|never|fails\sto)\s
         (?:\w+ly\s)?(?:say|state|mention|specify|tell|give|provide|contain|include|indicate|answer
           |reveal|explain|describe|discuss|list|identify|name|have|make\s(?:it\s)?clear)
      |(?:the\s)?(?:answer|solution|(?:this|that|the|his|her|their|its)\s[\w'\s]{{2,40}}?|it|this|that)
         (?:\s(?:is|was|are|were)\snot|\s(?:is|was|are|were)n't|'s\snot)\s(?:explicitly\s|directly\s|clearly\s)?
         (?:stated|given|mentioned|provided|specified|known|clear|possible\sto\s(?:tell|say|answer
           |determine|know)|in\sthe\s{_SOURCE})\b
      |(?:there|the\s{_SOURCE})\s(?:is|are|has|have|contains?|gives?|provides?)\s
         (?:no|not\senough|insufficient|not\sany)\s
         (?:information|mention|answer|data|details?|evidence|context|indication)\b
      |(?:not\senough|insufficient)\s(?:information|data|context|details?)\b
      |no\s(?:idea|clue|information|answer)\b
      |(?:impossible|not\spossible)\sto\s(?:tell|say|know|determine|answer)\b
      |(?:it\sis\s|it's\s|it\s|the\s(?:answer|question|problem)\s(?:is\s)?|currently\s|simply\s)?
         (?:unknown|unclear|uncertain|unsure|undetermined|n/?a
           |not\s(?:explicitly\s|directly\s|clearly\s)?(?:sure|certain|known|clear|stated|given
             |mentioned|provided|specified|available|applicable|answerable|determined)
           |(?:can\s?not|can't)\sbe\s(?:determined|known|answered|solved|found|inferred)
           |unanswerable)
         (?:\s(?:in|by|from|based\son|with|without|for)\s[^.\n]{{0,80}})?\W*$
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def refuses(text: str) -> bool:
    """Whether a text only says that its author has no answer, as `I don't know.`"""
    return _REFUSES.match(text.replace("’", "'")[:300]) is not None
