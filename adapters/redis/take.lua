-- Take new entries, as many as there are free slots, from the first streams that have any.
--
-- KEYS work streams in order of preference   ARGV[1] group   ARGV[2] consumer   ARGV[3] free slots
-- Answers {{index of the key, entries}..., }, {for each stream: the last id given to the group}. A group that is not
-- there (a new stream, or one that was lost) begins at the first entry of its stream.
local group, consumer, free = ARGV[1], ARGV[2], tonumber(ARGV[3])
local taken, places = {}, {}
for index, key in ipairs(KEYS) do
  if free > 0 then
    local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', free, 'STREAMS', key, '>')
    if type(read) == 'table' and read.err then
      if string.find(read.err, 'WRONGTYPE', 1, true) then
        redis.call('DEL', key)
      elseif not string.find(read.err, 'NOGROUP', 1, true) then
        return read
      end
      redis.call('XGROUP', 'CREATE', key, group, '0', 'MKSTREAM')
      read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', free, 'STREAMS', key, '>')
    end
    if read then
      local entries = read[1][2]
      free = free - #entries
      taken[#taken + 1] = { index, entries }
    end
  end
  local place = '0-0'
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if not groups.err then
    for _, info in ipairs(groups) do
      local found, name
      for i = 1, #info, 2 do
        if info[i] == 'name' then name = info[i + 1] end
        if info[i] == 'last-delivered-id' then found = info[i + 1] end
      end
      if name == group then place = found end
    end
  end
  places[index] = place
end
return { taken, places }
