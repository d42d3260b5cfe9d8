"""Decoding rules shared between outputs, so that they share what the rules learn about tokens."""

from collections import OrderedDict

from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.vocabulary import Vocabulary

_Key = tuple[str, tuple[str, ...], tuple[int, ...]]


class RulesCache:
    """Rules by model, stop strings and stop token ids; the least recently used are dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rules: OrderedDict[_Key, DecodingRules] = OrderedDict()

    def get(
        self,
        model: str,
        vocabulary: Vocabulary,
        stop_strings: tuple[str, ...],
        stop_token_ids: tuple[int, ...],
    ) -> DecodingRules:
        """The rules; `vocabulary` is that of `model`."""
        key = model, stop_strings, stop_token_ids
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = DecodingRules(vocabulary, stop_strings, stop_token_ids)
        self._rules.move_to_end(key)
        if len(self._rules) > self._capacity:
            self._rules.popitem(last=False)
        return rules
