-- feed.lua: wins from an element of the feed on, a page. Writes nothing.
--
-- keys   s t b o d w
-- args   first element, most elements, most bytes
-- reply  {element …}: at least one if there is one, else no more than so many bytes
local first, most, room = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local page, step = {}, 4
while #page < most do
  -- An element holds one win or a whole batch of them: what is read beyond the page is at most about as much again.
  local from = first + #page
  local some = redis.call('LRANGE', W, from, from + math.min(step, most - #page) - 1)
  for _, element in ipairs(some) do
    room = room - #element
    if room < 0 and #page > 0 then return page end
    page[#page + 1] = element
  end
  if #some < step then break end
  step = step * 2
end
return page
