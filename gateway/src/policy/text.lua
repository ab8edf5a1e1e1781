-- The text functions that policies get. What they take is bounded, because the VM does not count what a library
-- function does. `find` is asked for plain text only: a pattern may take exponential time.

local library, trim, bytes_max = ...
local lower, upper, sub, find = library.lower, library.upper, library.sub, library.find
local type, error = type, error

local function text(s)
  if type(s) ~= "string" then
    error("a text is needed, not a " .. type(s), 3)
  elseif #s > bytes_max then
    error("a text has " .. #s .. " bytes; at most " .. bytes_max, 3)
  end
  return s
end

return {
  contains = function(s, part)
    return find(text(s), text(part), 1, true) ~= nil
  end,
  starts_with = function(s, part)
    return sub(text(s), 1, #text(part)) == part
  end,
  ends_with = function(s, part)
    return #text(s) >= #text(part) and sub(s, #s - #part + 1) == part
  end,
  lower = function(s)
    return (lower(text(s)))
  end,
  upper = function(s)
    return (upper(text(s)))
  end,
  sub = function(s, from, to)
    return (sub(text(s), from, to or -1))
  end,
  trim = function(s)
    return (trim(text(s)))
  end,
}
