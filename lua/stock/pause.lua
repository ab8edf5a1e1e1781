-- pause.lua: the sale lacks what a log holds: its Redis is not the one it was activated under, or has lost it, or it was made
-- whole without that log. Nobody sells until all logs are in.
--
-- keys   s t b o d w r x a m
-- args   channel, sale, lineage of the server that this runs on, gateway, when the sale was made and its generation as the
--        gateway's log has them (0 and 0: its log does not hold the sale), then members it knows of
-- reply  {'paused', recovery}, or {'whole'} when the sale was activated under this lineage, is not paused, and its generation
--        has the gateway's log; or it is at rest (rest.lua); or there is no sale, neither here nor
--        in the gateway's log
-- keeps  may be repeated by everybody: one recovery for each life of this server's data. What begins one is counted in a
--        time, so a recovery that a second loss overtook is over for all who take part in it. Whom anybody who takes part
--        knows of is waited for, from the moment of taking part.
local channel, sale, lineage, me, born, gen = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local m = redis.call('HMGET', S, 'lin', 'paused', 'rec', 'born', 'gen', 'logs', 'over', 'live', 'ret')
-- Another birth: it was made again after a loss, by somebody who could not know. Another generation: it was made whole.
-- Which is the later is no clock's to say; whose log is in it, is listed.
local lacks = m[1] and born > 0 and (tonumber(m[4]) ~= born or tonumber(m[5]) ~= gen)
  and not string.find(m[6], ',' .. me .. ',', 1, true)
-- Neither Redis nor this log holds it: a stub made here would be let go by resume.lua, and made again, for ever.
if not m[1] and born == 0 then return { 'whole' } end
-- At rest: nothing changes in it any more, and the logs need not hold it.
if m[7] and m[2] == '' and m[8] == '0' and m[9] == '0' then
  redis.call('HSET', S, 'lin', lineage)
  return { 'whole' }
end
if m[1] == lineage and m[2] == '' and not lacks then return { 'whole' } end
local recovery = m[2] and m[2] ~= '' and string.sub(m[3], 1, #lineage + 1) == lineage .. '@' and m[3]
if not recovery then
  if not m[1] then
    redis.call('HSET', S, 'schema', 1, 'v', 0, 'sw', 's', 'ini', 0, 'res', 0, 'av', 0, 'live', 0, 'ret', 0, 'sold', 0,
      'back', 0, 'ep', 0, 'gen', 0, 'born', 0, 'lin', '', 'n', 0)
  end
  local t = redis.call('TIME')
  recovery = lineage .. '@' .. t[1] .. '.' .. t[2]
  redis.call('HSET', S, 'paused', 'the Redis server behind this sale has changed', 'rec', recovery, 'logs', ',')
  redis.call('DEL', KEYS[9], KEYS[10])
  publish(channel, sale)
end
redis.call('SADD', KEYS[10], me, unpack(ARGV, 7))
return { 'paused', recovery }
