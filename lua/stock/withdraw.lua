-- withdraw.lua: a log that was brought into a recovery is not that of its gateway, but an old copy's: it does not count.
--
-- keys   s t b o d w r x a m
-- args   recovery (pause.lua), gateways
-- reply  {'withdrawn'}, or {'over'} when it is another recovery: nothing was done
-- keeps  what the copy held is true all the same, and stays; the gateway is waited for
local m = redis.call('HMGET', S, 'paused', 'rec', 'logs')
if not m[1] or m[1] == '' or m[2] ~= ARGV[1] then return { 'over' } end
local logs = m[3]
for i = 2, #ARGV do
  redis.call('SREM', KEYS[9], ARGV[i])
  redis.call('SADD', KEYS[10], ARGV[i])
  local from, to = string.find(logs, ',' .. ARGV[i] .. ',', 1, true)
  if from then logs = string.sub(logs, 1, from) .. string.sub(logs, to + 1) end
end
redis.call('HSET', S, 'logs', logs)
return { 'withdrawn' }
