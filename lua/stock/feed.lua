-- feed.lua: wins from an element of the feed on, a page. Writes nothing.
--
-- keys   s t b o d w
-- args   generation or '', first element, most elements, most bytes
-- reply  {'ok', element …}: at least one if there is one, else no more than so many bytes; or {status} as in batch.lua
-- keeps  a feed that was lost does not look like one that has come to its end
local why = refused(ARGV[1])
if why then return { why } end
local first, most, room = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local page, step = { 'ok' }, 4
while #page <= most do
  -- An element holds one win or a whole batch of them: what is read beyond the page is at most about as much again.
  local from = first + #page - 1
  local some = redis.call('LRANGE', W, from, from + math.min(step, most + 1 - #page) - 1)
  for _, element in ipairs(some) do
    room = room - #element
    if room < 0 and #page > 1 then return page end
    page[#page + 1] = element
  end
  if #some < step then break end
  step = step * 2
end
return page
