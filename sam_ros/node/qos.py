"""QoS of camera images, and the parameters by which people override QoS."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

QOS_PREFIX = "qos_overrides."  # then topic, publisher or subscription, and policy: rclpy's parameters
WORDS = {
    name: [word.lower() for word in policy.__members__ if word != "UNKNOWN"]
    for name, policy in (("history", HistoryPolicy), ("reliability", ReliabilityPolicy))
}


def image_qos(durability: str) -> QoSProfile:
    """Of a subscription to a camera, by the parameter ``image_durability``: volatile or transient_local.

    Best effort takes from every camera driver, and only the newest frame matters; what is kept for late
    subscribers is sent reliably. Made anew every time, since rclpy writes overrides into it.
    """
    if durability == "transient_local":
        return QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def copied(qos: QoSProfile) -> QoSProfile:
    """Of the same policies, for one topic alone: rclpy writes that topic's overrides into it."""
    return copy.copy(qos)


def check_qos_overrides(changes: Iterable[Parameter]) -> SetParametersResult:
    """For ``Node.add_on_set_parameters_callback``: refuses what rclpy would take and then fail at.

    That would be with a traceback, far from the cause. Other parameters are not looked at.
    """
    wrong = [_what_is_wrong(it.name, it.value) for it in changes if it.name.startswith(QOS_PREFIX)]
    reason = next(filter(None, wrong), "")
    return SetParametersResult(successful=not reason, reason=reason)


def _what_is_wrong(name: str, value: Any) -> str:
    """No word of its policy, or a negative depth; '' if nothing is."""
    policy = name.rpartition(".")[2]
    if policy in WORDS and str(value).lower() not in WORDS[policy]:
        return f"{name} must be one of {', '.join(WORDS[policy])}, got {value!r}"
    if policy == "depth" and isinstance(value, int) and value < 0:
        return f"{name} must be at least 0, got {value}"
    return ""
