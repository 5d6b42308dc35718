-- Take over entries that lie taken for too long, and forget consumers that are gone and hold nothing.
--
-- KEYS work streams in order of preference   ARGV[1] group   ARGV[2] consumer   ARGV[3] idle milliseconds
-- ARGV[4] limit   ARGV[5] milliseconds after which a consumer is gone   ARGV[6..] for each stream: where to go on
-- Answers {{index of the key, entries}...}, {for each stream: where to go on}. One call looks at a bounded part of
-- what is pending (ten times COUNT), therefore the places.
local group, consumer, idle, free, gone = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local taken, places = {}, {}
for index, key in ipairs(KEYS) do
  places[index] = ARGV[5 + index]
  if free > 0 then
    local read = redis.pcall('XAUTOCLAIM', key, group, consumer, idle, places[index], 'COUNT', free)
    if read.err then
      places[index] = '0-0'
    else
      places[index] = read[1]
      if #read[2] > 0 then
        free = free - #read[2]
        taken[#taken + 1] = { index, read[2] }
      end
    end
  end
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, group)
  if not consumers.err then
    for _, info in ipairs(consumers) do
      local values = {}
      for i = 1, #info, 2 do values[info[i]] = info[i + 1] end
      -- Within one script nothing can become pending between the look and the deletion.
      if values.pending == 0 and values.idle > gone and values.name ~= consumer then
        redis.call('XGROUP', 'DELCONSUMER', key, group, values.name)
      end
    end
  end
end
return { taken, places }
