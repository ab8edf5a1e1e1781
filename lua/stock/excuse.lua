-- excuse.lua: an operator decides to go on without a gateway's log: what only that log held is lost, unless the gateway comes
-- back: then it finds its log missing in the generation, and the sale is paused until it is in (pause.lua).
--
-- keys   s t b o d w r x a m
-- args   gateway
-- reply  {'excused', available, live, sold} as without that log, or {'over'} when the sale is not paused
local m = redis.call('HMGET', S, 'paused', 'av', 'live', 'sold')
if not m[1] or m[1] == '' then return { 'over' } end
redis.call('SADD', KEYS[9], ARGV[1])
redis.call('SADD', KEYS[10], ARGV[1])
return { 'excused', m[2], m[3], m[4] }
