"""Importance on disk: files of scores, calibration text, and how scores are looked at."""

from __future__ import annotations

from archc.importance.files import check_scores, load_scores, save_scores

__all__ = ["check_scores", "load_scores", "save_scores"]
