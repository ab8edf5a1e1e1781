-- forget.lua: an operator gives up the log of a gateway that is gone for good: no recovery waits for it any more.
--
-- keys   gateways beats members joins processes forgotten, as of heartbeat.lua
-- args   gateway, dead after (ms), 1 when a log knows it as a member
-- reply  {when it was forgotten}, {'alive'} when it has a heartbeat, or {'unknown'} when nobody knows it: nothing was done
-- keeps  one that comes back all the same joins anew, and its log is brought in (pause.lua); an old copy of its data folder is
--        told by its processes, which are kept
local gateways, beats, members, joins, forgotten = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local gone = ARGV[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local seen = redis.call('ZSCORE', beats, gone)
if seen and now - tonumber(seen) < tonumber(ARGV[2]) then return { 'alive' } end
local before = redis.call('HGET', forgotten, gone)
if before then return { tonumber(before) } end
if ARGV[3] ~= '1' and not seen and redis.call('SISMEMBER', members, gone) == 0 then return { 'unknown' } end
redis.call('ZREM', beats, gone)
redis.call('HDEL', gateways, gone)
redis.call('SREM', members, gone)
for _, field in ipairs(redis.call('HKEYS', joins)) do
  if field == gone or string.sub(field, 1, #gone + 1) == gone .. '|' then redis.call('HDEL', joins, field) end
end
redis.call('HSET', forgotten, gone, string.format('%.0f', now))
return { now }
