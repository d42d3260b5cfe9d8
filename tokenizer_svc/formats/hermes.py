"""Calls as Hermes, Qwen 2.5 and Qwen 3 write them: JSON between <tool_call> and </tool_call>.

Source: the models' chat templates and Nous Research's description of Hermes function calling.
"""

from tokenizer_svc.formats.json_call import JsonToolParser
from tokenizer_svc.formats.parser import Reading

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(JsonToolParser):
    """The state of one output. The end marker may be missing."""

    markers = (OPEN,)

    def _call(self, marker: str) -> Reading:
        del marker  # there is one
        yield from self._call_object()
        yield from self._end_marker(CLOSE)
