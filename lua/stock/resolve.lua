-- resolve.lua: what became of reservations whose call was not answered. One that is absent is made to stay so.
--
-- keys   s t b o d w r x
-- args   generation, tickets …
-- reply  one a ticket: 0 absent, and a tombstone that a late reserve of the id obeys, or {pending, packed ticket}; or
--        {status} as in batch.lua
-- keeps  nothing is called absent while a log may still bring it in
local why = refused(ARGV[1])
if why then return { why } end
local answers = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then
    redis.call('HSET', T, id, 'x')
    redis.call('ZADD', X, clock(), id)
    answers[i - 1] = 0
  else
    answers[i - 1] = { pending(id, cmsgpack.unpack(packed)), packed }
  end
end
return answers
