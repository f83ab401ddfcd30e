"""What a composite strategy draws from, made once: hypothesis checks a strategy when it first draws from it.

Made anew at each draw, as it stands inside of a composite, that check takes longer than all else that a test does.
"""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]


@lru_cache(maxsize=None, typed=True)  # 0 is not False
def among(*values: Hashable) -> st.SearchStrategy[Any]:
    """One of these; what stands twice comes twice as often."""
    return st.sampled_from(values)
