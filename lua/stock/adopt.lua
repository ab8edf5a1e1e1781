-- adopt.lua: live tickets of a gateway that is gone change hands, a page at a time.
--
-- keys   s t b o d
-- args   generation, gateway, the gateway that is gone, first rank, most tickets looked at
-- reply  {status, next rank or -1 at the end, {{note, packed ticket} …}}; status as in batch.lua. Each is the gateway's
--        now: append its newest record, then clear the note.
-- keeps  looks at live tickets only; adopting twice finds nothing the second time
local me, gone, first, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local why = refused(ARGV[1])
if why then return { why } end
local ids = redis.call('ZRANGE', D, first, first + most - 1)
local adopted, now = {}, clock()
for _, id in ipairs(ids) do
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
return { 'ok', #ids == most and first + most or -1, adopted }
