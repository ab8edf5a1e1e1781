-- pause.lua: the sale's Redis is not the one it was activated under, or has lost it: nobody sells until it is whole.
--
-- keys   s t b o d w r x a m
-- args   channel, sale, lineage of the server that this runs on, when the sale was made as the caller's log has it (0: it has
--        none). A sale that was made later than that was made again after a loss.
-- reply  {'paused', recovery}, or {'whole'} when the sale was activated under this lineage and is not paused
-- keeps  may be repeated by everybody: one recovery for each life of this server's data. What begins one is counted in a
--        time, so a recovery that a second loss overtook is over for all who take part in it.
local channel, sale, lineage, known = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local m = redis.call('HMGET', S, 'lin', 'paused', 'rec', 'born')
if m[1] == lineage and m[2] == '' and (known == 0 or tonumber(m[4]) <= known) then return { 'whole' } end
if m[2] and m[2] ~= '' and string.sub(m[3], 1, #lineage + 1) == lineage .. '@' then return { 'paused', m[3] } end
if not m[1] then
  redis.call('HSET', S, 'schema', 1, 'v', 0, 'sw', 's', 'ini', 0, 'res', 0, 'av', 0, 'live', 0, 'ret', 0, 'sold', 0,
    'back', 0, 'ep', 0, 'gen', 0, 'born', 0, 'lin', '', 'n', 0)
end
local t = redis.call('TIME')
local recovery = lineage .. '@' .. t[1] .. '.' .. t[2]
redis.call('HSET', S, 'paused', 'the Redis server behind this sale has changed', 'rec', recovery)
redis.call('DEL', KEYS[9], KEYS[10])
publish(channel, sale)
return { 'paused', recovery }
