-- resume.lua: ends a recovery once every gateway that must has re-applied its log.
--
-- keys   s t b o d w r x a m
-- args   channel, sale, recovery (pause.lua), its lineage, gateway, 1 when its log is re-applied, generation that it knew, how
--        many gateways follow that are forgotten, those, then members it knows of
-- reply  {'resumed', generation} · {'waiting', missing gateway …} · {'over'} nothing to do, or another recovery · {'nosale'} no log
--        held the sale itself
-- keeps  the generation is above every one that a gateway has seen, also when Redis forgot; the members known to anybody who
--        re-applied must all have done so, or be excused by an operator (excuse.lua)
local channel, sale, recovery, lineage, me = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local A, M = KEYS[9], KEYS[10]
local m = redis.call('HMGET', S, 'paused', 'rec', 'v', 'gen', 'logs')
if not m[1] or m[1] == '' or m[2] ~= recovery then return { 'over' } end
if ARGV[6] == '1' then
  redis.call('SADD', A, me)
  redis.call('SADD', M, me)
  if not string.find(m[5], ',' .. me .. ',', 1, true) then redis.call('HSET', S, 'logs', m[5] .. me .. ',') end
end
for i = 9, 8 + tonumber(ARGV[8]) do redis.call('SREM', M, ARGV[i]) end
for i = 9 + tonumber(ARGV[8]), #ARGV do redis.call('SADD', M, ARGV[i]) end
local gen = math.max(tonumber(m[4]), tonumber(ARGV[7]))
redis.call('HSET', S, 'gen', gen)
local missing = redis.call('SDIFF', M, A)
if #missing > 0 or redis.call('SCARD', A) == 0 then return { 'waiting', unpack(missing) } end
if tonumber(m[3]) == 0 then
  -- Nothing is known of it by anybody: its name is free.
  if redis.call('HLEN', T) == 0 then redis.call('DEL', S, A, M) end
  return { 'nosale' }
end
gen = math.max(gen + 1, clock())
redis.call('HSET', S, 'paused', '', 'rec', '', 'lin', lineage, 'gen', gen)
redis.call('HINCRBY', S, 'v', 1)
redis.call('HINCRBY', S, 'ep', 1)
redis.call('DEL', A, M)
publish(channel, sale)
return { 'resumed', gen }
