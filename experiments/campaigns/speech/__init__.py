"""Whisper on real recordings, beside other implementations."""
