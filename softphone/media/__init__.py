"""Audio of a call: SDP, SRTP, codecs, RTP/RTCP, jitter buffer, files."""
