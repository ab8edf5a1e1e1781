-- heartbeat.lua: a gateway says that it is there, hears who else is, and joins the fleet.
--
-- keys   gateways  hash  gateway -> what it tells of itself (JSON)
--        beats     zset  gateway, scored by Redis's time of its last heartbeat
--        members   set   every gateway that may ever have sold
--        joins     hash  'newcomer' -> 1, and 'newcomer|member' -> 1 once that member has recorded the join in its log
-- args   gateway, what it tells of itself, dead after (ms), forgotten after (ms), then newcomers whose join it has recorded
-- reply  {1 when a member, {members …}, {newcomers …}, {gateway, JSON, ms since its heartbeat, …}}
-- keeps  a newcomer is a member only when every living member has it in its log
local gateways, beats, members, joins = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, dead_after = ARGV[1], tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', gateways, me, ARGV[2])
redis.call('ZADD', beats, now, me)
for i = 5, #ARGV do
  if redis.call('HEXISTS', joins, ARGV[i]) == 1 then redis.call('HSET', joins, ARGV[i] .. '|' .. me, 1) end
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', now - tonumber(ARGV[4]))) do
  redis.call('ZREM', beats, gone)
  redis.call('HDEL', gateways, gone)
end
local seen, list, living = redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES'), {}, {}
for i = 1, #seen, 2 do
  local age = math.max(0, now - tonumber(seen[i + 1]))
  list[#list + 1] = seen[i]
  list[#list + 1] = redis.call('HGET', gateways, seen[i]) or '{}'
  list[#list + 1] = age
  if age < dead_after then living[#living + 1] = seen[i] end
end
local member = redis.call('SISMEMBER', members, me)
if member == 0 then
  local agreed = true
  for _, other in ipairs(living) do
    if other ~= me and redis.call('SISMEMBER', members, other) == 1
      and redis.call('HEXISTS', joins, me .. '|' .. other) == 0 then agreed = false end
  end
  if agreed then
    member = 1
    redis.call('SADD', members, me)
    redis.call('HDEL', joins, me)
    for _, field in ipairs(redis.call('HKEYS', joins)) do
      if string.sub(field, 1, #me + 1) == me .. '|' then redis.call('HDEL', joins, field) end
    end
  else
    redis.call('HSET', joins, me, 1)
  end
end
local newcomers = {}
for _, field in ipairs(redis.call('HKEYS', joins)) do
  if not string.find(field, '|', 1, true) and field ~= me
    and redis.call('HEXISTS', joins, field .. '|' .. me) == 0 then newcomers[#newcomers + 1] = field end
end
return { member, redis.call('SMEMBERS', members), newcomers, list }
