-- Take entries, as many as there are free slots, from the first streams that have any: first what was parked for want
-- of an executor that knows its task, then what is new.
--
-- KEYS N work streams in order of preference, then for each of them the set of its parked tasks, then bells
-- ARGV[1] group   ARGV[2] consumer   ARGV[3] free slots   ARGV[4] N   ARGV[5] prefix of the parking consumers' names
-- ARGV[6..] the tasks that this consumer knows
-- Answers {{index of the key, entries}..., }, {for each stream: the last id given to the group}, {for each bell: when it
-- was rung last}, whether anything is parked. A group that is not there (a new stream, or one that was lost) begins at
-- the first entry of its stream.
local group, consumer, free, count, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local FIRST_TASK = 6
local taken, places, bells, parked = {}, {}, {}, 0

local function take_parked(index, key, registry)
  for from = FIRST_TASK, #ARGV, 1000 do
    local to = math.min(#ARGV, from + 999)
    for offset, known in ipairs(redis.call('SMISMEMBER', registry, unpack(ARGV, from, to))) do
      if known == 1 and free > 0 then
        local task = ARGV[from + offset - 1]
        local pending = redis.pcall('XPENDING', key, group, '-', '+', free, prefix .. task)
        if pending.err or #pending == 0 then
          redis.call('SREM', registry, task)
        else
          local ids = {}
          for i, one in ipairs(pending) do ids[i] = one[1] end
          local entries = redis.call('XCLAIM', key, group, consumer, 0, unpack(ids))
          if #entries > 0 then
            free = free - #entries
            taken[#taken + 1] = { index, entries }
          end
        end
      end
    end
  end
end

for index = 1, count do
  local key, registry = KEYS[index], KEYS[count + index]
  if redis.call('TYPE', registry).ok == 'set' then
    parked = 1
    if free > 0 then take_parked(index, key, registry) end
  end
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
for index = 2 * count + 1, #KEYS do
  local place = '0-0'
  local last = redis.pcall('XREVRANGE', KEYS[index], '+', '-', 'COUNT', 1)
  if not last.err and #last > 0 then place = last[1][1] end
  bells[#bells + 1] = place
end
return { taken, places, bells, parked }
