-- pause.lua: the sale's Redis is not the one it was activated under, or has lost it: nobody sells until it is whole.
--
-- keys   s t b o d w r x a m
-- args   channel, sale, lineage of the server that this runs on
-- reply  'paused', or 'whole' when the sale was activated under this lineage and is not paused
-- keeps  may be repeated by everybody: one recovery for each lineage
local channel, sale, lineage = ARGV[1], ARGV[2], ARGV[3]
local m = redis.call('HMGET', S, 'lin', 'paused', 'rec')
if m[1] == lineage and m[2] == '' then return 'whole' end
if m[2] and m[2] ~= '' and m[3] == lineage then return 'paused' end
if not m[1] then
  redis.call('HSET', S, 'schema', 1, 'v', 0, 'sw', 's', 'ini', 0, 'res', 0, 'av', 0, 'live', 0, 'ret', 0, 'sold', 0,
    'back', 0, 'ep', 0, 'gen', 0, 'lin', '', 'n', 0)
end
redis.call('HSET', S, 'paused', 'the Redis server behind this sale has changed', 'rec', lineage)
redis.call('DEL', KEYS[9], KEYS[10])
publish(channel, sale)
return 'paused'
