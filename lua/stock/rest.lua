-- rest.lua: puts a sale to rest that is closed and settled, and has been for so long: it never sells again, so the logs need
-- not be kept for it.
--
-- keys   s t b o d w
-- args   channel, sale, for how long (ms), the gateway's clock
-- reply  'over' now or since earlier, 'settled' not long enough yet, 'no', or why not as in batch.lua
-- keeps  ages go by Redis's time; a change of the sale's spec or switch begins the time anew; closed is what both clocks call
--        so; nothing is owed: no ticket is live, no unit on its way, no note stands
--
-- Fields of s: quiet (version and time at which it was first seen so), over (when it was put to rest; see reapply.lua).
local m = redis.call('HMGET', S, 'v', 'sw', 'closes', 'live', 'ret', 'quiet', 'over')
local why = refused('')
if why then return why end
if m[7] then return 'over' end
local now = clock()
local closed = m[2] == 'c' or m[3] ~= '' and math.min(now, tonumber(ARGV[4])) >= tonumber(m[3])
local function more_than(key, count)
  return #redis.call('ZRANGEBYSCORE', key, '-inf', '+inf', 'LIMIT', 0, count + 1) > count
end
-- One name stays in o for good.
if not closed or m[4] ~= '0' or m[5] ~= '0' or more_than(D, 0) or more_than(O, 1) then
  redis.call('HDEL', S, 'quiet')
  return 'no'
end
local version, since = string.match(m[6] or '', '^(%d+)@(%d+)$')
if version ~= m[1] then
  redis.call('HSET', S, 'quiet', string.format('%s@%.0f', m[1], now))
  since = now
end
if now - tonumber(since) < tonumber(ARGV[3]) then return 'settled' end
redis.call('HDEL', S, 'quiet')
redis.call('HSET', S, 'over', string.format('%.0f', now))
redis.call('HINCRBY', S, 'v', 1)
publish(ARGV[1], ARGV[2])
return 'over'
