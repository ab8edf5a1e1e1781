-- read.lua: tickets as they stand. Writes nothing.
--
-- keys   s t b o
-- args   generation or '', tickets …
-- reply  one a ticket: 0 no such ticket, or {pending, packed ticket}; or {status} as in batch.lua
-- keeps  nothing is told of a sale that lacks what a log holds, nor to who has not heard of another life of it
local why = refused(ARGV[1])
if why then return { why } end
local answers = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then
    answers[i - 1] = 0
  else
    answers[i - 1] = { pending(id, cmsgpack.unpack(packed)), packed }
  end
end
return answers
