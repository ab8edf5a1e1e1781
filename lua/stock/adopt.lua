-- adopt.lua: live tickets of a gateway that is gone change hands, a page at a time.
--
-- keys   s t b o d
-- args   generation, gateway, the gateway that is gone, cursor (0 first), about how many tickets to look at
-- reply  {status, next cursor or 0 at the end, {{note, packed ticket} …}}; status as in batch.lua. Each is the gateway's
--        now: append its newest record, then clear the note.
-- keeps  looks at live tickets only; a pass from 0 to 0 meets every one that is live throughout, however the others come and
--        go (ranks would move under it); adopting twice finds nothing the second time
local me, gone = ARGV[2], ARGV[3]
local why = refused(ARGV[1])
if why then return { why } end
local page = redis.call('ZSCAN', D, ARGV[4], 'COUNT', ARGV[5])
local adopted, now = {}, clock()
for i = 1, #page[2], 2 do
  local id = page[2][i]
  local t = cmsgpack.unpack(redis.call('HGET', T, id))
  if t[OWNER] == gone then
    redis.call('ZREM', O, note(id, t))
    t[OWNER], t[EPOCH] = me, t[EPOCH] + 1
    local packed, name = cmsgpack.pack(t), note(id, t)
    redis.call('HSET', T, id, packed)
    redis.call('ZADD', O, now, name)
    adopted[#adopted + 1] = { name, packed }
  end
end
return { 'ok', page[1], adopted }
