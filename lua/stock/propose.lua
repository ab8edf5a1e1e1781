-- propose.lua: a number for a process of a gateway that has just been started. It becomes the newest only with its first
-- heartbeat (heartbeat.lua), once the gateway's log holds it.
--
-- keys   processes
-- args   gateway, newest number that its log holds (0: none), ten random bits
-- reply  {number, newest process that beat under this id (0: none is known), how far its log was, Redis's time}
-- keeps  nothing is written: one that comes late, or is never used, changes nothing. No number is proposed twice: not in one
--        millisecond, and not when Redis's clock was set back.
local newest, log_end = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+) %-?%d+$')
newest = tonumber(newest or 0)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local above = math.floor(math.max(newest, tonumber(ARGV[2])) / 1024) + 1
return { math.max(now, above) * 1024 + tonumber(ARGV[3]), newest, tonumber(log_end or 0), now }
