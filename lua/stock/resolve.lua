-- resolve.lua: what became of reservations whose call was not answered. One that is absent is made to stay so.
--
-- keys   s t b o d w r x
-- args   tickets …
-- reply  one a ticket: 0 absent, and a tombstone that a late reserve of the id obeys, or {pending, packed ticket}; or
--        {'paused' | 'nosale'}
-- keeps  nothing is called absent while a log may still bring it in
local m = redis.call('HGET', S, 'paused')
if not m then return { 'nosale' } end
if m ~= '' then return { 'paused' } end
local answers = {}
for i, id in ipairs(ARGV) do
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then
    redis.call('HSET', T, id, 'x')
    redis.call('ZADD', X, clock(), id)
    answers[i] = 0
  else
    answers[i] = { pending(id, cmsgpack.unpack(packed)), packed }
  end
end
return answers
