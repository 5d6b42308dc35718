-- Take over entries that lie taken for too long, and forget consumers that are gone and hold nothing.
--
-- KEYS work streams in order of preference   ARGV[1] group   ARGV[2] consumer   ARGV[3] idle milliseconds
-- ARGV[4] limit   ARGV[5] milliseconds after which a consumer is gone   ARGV[6] prefix of the parking consumers' names
-- ARGV[7] milliseconds after which what is parked is looked at again, 0: not now   ARGV[8] limit for that
-- Answers {index of the key, entries}... What executors took comes before what is parked.
local group, consumer, idle, free, gone = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local prefix, parked_idle = ARGV[6], ARGV[7]
local taken, parked = {}, {}

local function take_over(index, name, min_idle)
  if free <= 0 then return end
  local key = KEYS[index]
  local pending = redis.pcall('XPENDING', key, group, 'IDLE', min_idle, '-', '+', free, name)
  if pending.err or #pending == 0 then return end
  local ids = {}
  for i, one in ipairs(pending) do ids[i] = one[1] end
  local entries = redis.call('XCLAIM', key, group, consumer, min_idle, unpack(ids))
  if #entries > 0 then
    free = free - #entries
    taken[#taken + 1] = { index, entries }
  end
end

for index, key in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, group)
  if not consumers.err then
    for _, info in ipairs(consumers) do
      local values = {}
      for i = 1, #info, 2 do values[info[i]] = info[i + 1] end
      if values.pending > 0 and string.sub(values.name, 1, #prefix) == prefix then
        parked[#parked + 1] = { index, values.name }
      elseif values.pending > 0 then
        take_over(index, values.name, idle)
      elseif values.idle > gone and values.name ~= consumer then
        -- Within one script nothing can become pending between the look and the deletion.
        redis.call('XGROUP', 'DELCONSUMER', key, group, values.name)
      end
    end
  end
end
if parked_idle ~= '0' then
  free = math.min(free, tonumber(ARGV[8]))
  for _, one in ipairs(parked) do take_over(one[1], one[2], parked_idle) end
end
return taken
