-- Shared by scripts that come after it: whether an id lies beyond a position, and a stream without what does.
local function is_beyond(id, finish)
  local position = string.match(id, '^%d+')
  return #position > #finish or (#position == #finish and position > finish)
end

local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then return info[i + 1] end
  end
end

-- Make the stream anew with its entries up to a position: a stream's last id never goes back. Its groups go on, and
-- what was taken stays taken. Answers how many entries were left out.
local function rebuild_without_beyond(key, finish)
  local aside = 'rota:aside'
  redis.call('DEL', aside)
  redis.call('RENAME', key, aside)
  local from, kept, last_id = '-', 0, '0-0'
  while true do
    local entries = redis.call('XRANGE', aside, from, finish, 'COUNT', 500)
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
      redis.call('XADD', key, entry[1], unpack(entry[2]))
      last_id = entry[1]
    end
    kept = kept + #entries
    from = '(' .. last_id
  end
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', aside)) do
    local name, delivered = field(group, 'name'), field(group, 'last-delivered-id')
    redis.call('XGROUP', 'CREATE', key, name, is_beyond(delivered, finish) and last_id or delivered, 'MKSTREAM')
    from = '-'
    while true do
      local pending = redis.call('XPENDING', aside, name, from, finish, 500)
      if #pending == 0 then break end
      for _, one in ipairs(pending) do
        redis.call('XCLAIM', key, name, one[2], 0, one[1], 'IDLE', one[3], 'RETRYCOUNT', one[4], 'FORCE', 'JUSTID')
        from = '(' .. one[1]
      end
    end
  end
  local left_out = redis.call('XLEN', aside) - kept
  redis.call('DEL', aside)
  return left_out
end

