"""Everything that speaks to PostgreSQL. Nothing outside this package imports SQLAlchemy or asyncpg."""
