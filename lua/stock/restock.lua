-- restock.lua: adds units, once for each restock id. They wait for their note to be cleared.
--
-- keys   s t b o d w r
-- args   sale, restock id, units, most restock ids, most units
-- reply  {'done', note} · {'repeat', whether its note still stands} · {'mismatch', units then} · {'full'} · {'units'} too many · {'zero'} ·
--        {'paused'} · {'over'} at rest (rest.lua) · {'nosale'}
local id, units = ARGV[2], tonumber(ARGV[3])
local m = redis.call('HMGET', S, 'ini', 'res', 'ret', 'paused', 'over')
if not m[1] then return { 'nosale' } end
if m[4] ~= '' then return { 'paused' } end
local before = redis.call('HGET', R, id)
if before then
  if before ~= ARGV[3] then return { 'mismatch', before } end
  return { 'repeat', redis.call('ZSCORE', O, 's0:' .. before .. ':' .. id) and 1 or 0 }
end
if units == 0 then return { 'zero' } end
if m[5] then return { 'over' } end
-- In this order: a sum above 2^53 is not exact.
if units > tonumber(ARGV[5]) - tonumber(m[1]) - tonumber(m[2]) then return { 'units' } end
if redis.call('HLEN', R) >= tonumber(ARGV[4]) then return { 'full' } end
local name = 's0:' .. ARGV[3] .. ':' .. id
redis.call('HSET', R, id, ARGV[3])
redis.call('HSET', S, 'res', tonumber(m[2]) + units, 'ret', tonumber(m[3]) + units)
redis.call('ZADD', O, clock(), name)
return { 'done', name }
