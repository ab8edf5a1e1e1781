-- read.lua: tickets as they stand. Writes nothing; answers of a paused sale are as good as any.
--
-- keys   s t b o
-- args   tickets …
-- reply  one a ticket: 0 no such ticket, or {pending, packed ticket}
local answers = {}
for i, id in ipairs(ARGV) do
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then
    answers[i] = 0
  else
    answers[i] = { pending(id, cmsgpack.unpack(packed)), packed }
  end
end
return answers
