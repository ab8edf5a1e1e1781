-- switch.lua: opens or closes a sale by hand.
--
-- keys   s t b o d w
-- args   channel, sale, switch (o or c)
-- reply  'ok', 'paused', 'over' (rest.lua) or 'nosale'
local m = redis.call('HMGET', S, 'sw', 'paused', 'over')
if not m[1] then return 'nosale' end
if m[2] ~= '' then return 'paused' end
if m[1] ~= ARGV[3] then
  if m[3] then return 'over' end
  redis.call('HSET', S, 'sw', ARGV[3])
  redis.call('HINCRBY', S, 'v', 1)
  publish(ARGV[1], ARGV[2])
end
return 'ok'
