"""What several home agents have in common in Redis, and the scripts that change it, each in one step.

Keys, for the home agent's address A: ``roamphone:{A}:lease`` (who serves, runs out by itself), ``:epoch`` (counts those
who served), ``:bindings`` (home address -> record), ``:sequences`` (outbound association -> last number set aside),
``:received`` (inbound association -> highest number received).

Something else under these names than what belongs there is as good as nothing and is replaced.
"""

from __future__ import annotations

from ipaddress import IPv6Address

PARTS = ("lease", "epoch", "bindings", "sequences", "received")


def keys(address: IPv6Address) -> tuple[str, ...]:
    """The names, in the order in which the scripts want them. The braces keep them on one server of a cluster."""
    return tuple(f"roamphone:{{{address}}}:{part}" for part in PARTS)


_CLEAN = """
local function clean(key, kind)
  local is = redis.call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then redis.call('DEL', key) end
  return is == kind
end
local function number(text, most)
  local read = text and string.match(text, '^%d+$') and tonumber(text) or 0
  return read <= most and read or 0
end
local function epoch_of(key)
  return clean(key, 'string') and number(redis.call('GET', key), 9e15) or 0
end
local function all(key)
  if redis.call('TYPE', key).ok == 'none' then return {} end
  return clean(key, 'hash') and redis.call('HGETALL', key) or false
end
"""

ACQUIRE = (
    _CLEAN
    + """
clean(KEYS[1], 'string')
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1]), holder} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local before = epoch_of(KEYS[2])
local epoch = math.max(before, tonumber(ARGV[3])) + 1
redis.call('SET', KEYS[2], string.format('%.0f', epoch))
return {1, before, epoch, all(KEYS[3]), all(KEYS[4]), all(KEYS[5])}
"""
)
"""Arguments: owner, milliseconds, highest epoch known. Answers 0, milliseconds left (-1: for ever), who; or 1, epoch
before, epoch now, and the three tables (nil: something else was there), as lists of names and values."""

HOLD = (
    _CLEAN
    + """
if not clean(KEYS[1], 'string') or redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for part = 3, 5 do clean(KEYS[part], 'hash') end
local at, answer = 3, {1}
local function take()
  at = at + 1
  return ARGV[at - 1]
end
for _ = 1, tonumber(take()) do
  local name, floor, count = take(), tonumber(take()), tonumber(take())
  local base = math.max(number(redis.call('HGET', KEYS[4], name), 4294967295), floor)
  local last = math.min(base + count, 4294967295)
  redis.call('HSET', KEYS[4], name, string.format('%.0f', last))
  table.insert(answer, base)
  table.insert(answer, last)
end
for _ = 1, tonumber(take()) do
  redis.call('HSET', KEYS[5], take(), take())
end
for _ = 1, tonumber(take()) do
  local home, record = take(), take()
  if record == '' then redis.call('HDEL', KEYS[3], home) else redis.call('HSET', KEYS[3], home, record) end
end
return answer
"""
)
"""Arguments: owner, milliseconds; then three lists, each with its length before it: (association, floor, count) that
are wanted, (association, highest received), (home address, record or empty). Answers 0: not the holder, nothing was
done; or 1, and for each that was wanted the number before the first and the last one."""

FOLLOW = (
    _CLEAN
    + """
return {epoch_of(KEYS[2]), all(KEYS[3]), all(KEYS[4]), all(KEYS[5])}
"""
)
"""Answers the epoch and the three tables."""

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""Arguments: owner."""
