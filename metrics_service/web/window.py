"""The window that a query string asks for, such as `?window=24h&ended=7d`."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import QueryParams

from metrics_service.state.series.rings import SECOND_US, Window, WindowError, ring_of

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")


class BadWindowError(ValueError):
    """A parameter is none that is answered; `parameter` names it, and the text the choices."""

    def __init__(self, parameter: str, choices: str) -> None:
        super().__init__(choices)
        self.parameter = parameter


def window_of(parameters: QueryParams) -> Window:
    """Return the window of `window` and `ended`: whole seconds, or a number with s, m, h or d.
    Raises BadWindowError, also for one that is given twice.
    """
    window_us, ended_us = _duration_us(parameters, "window"), _duration_us(parameters, "ended")
    if window_us is None:
        if ended_us is not None:
            raise BadWindowError("ended", "needs a window")
        return Window()
    parameter = "window"
    try:
        ring_of(window_us)
        parameter = "ended"
        ring_of(window_us, ended_us or 0)
    except WindowError as error:
        raise BadWindowError(parameter, str(error)) from None
    return Window(window_us, ended_us or 0)


def _duration_us(parameters: QueryParams, name: str) -> int | None:
    texts = parameters.getlist(name)
    if not texts:
        return None
    if len(texts) > 1:
        raise BadWindowError(name, "must be given once")
    found = _DURATION.fullmatch(texts[0])
    if found is None:
        raise BadWindowError(name, "must be seconds, or a number with s, m, h or d, such as 15m")
    return int(found[1]) * _UNITS_S[found[2]] * SECOND_US
